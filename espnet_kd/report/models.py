"""Which models a report is about, and where their files lie."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import List, Sequence

from espnet_kd.errors import UserError


@dataclass(frozen=True)
class Model:
    """A model of the run.

    Attributes:
        name: Name in the report.
        stage: 0 is the first teacher, k the student of compression stage k.
        dir: Experiment: scores, decoding logs, `facts.json`, `history.json`.
        checkpoint: The parameters that were decoded.
    """

    name: str
    stage: int
    dir: Path
    checkpoint: Path


def parse_models(options: Sequence[str], inference_model: str) -> List[Model]:
    """Parse `--model NAME=DIR` or `NAME=DIR:CHECKPOINT` options, in the order of the stages.

    A checkpoint named in the option is a path, or a file in DIR; it serves a teacher that
    was trained elsewhere and decoded here.

    Raises:
        UserError: an option is malformed, a name is used twice, a directory is not there.
    """
    models: List[Model] = []
    for stage, option in enumerate(options):
        name, equals, place = option.partition("=")
        if not equals or not re.fullmatch(r"[^\s|`]+", name) or not place:
            raise UserError(f"--model {option}: not of the form NAME=DIR or NAME=DIR:FILE.pth")
        if name in (m.name for m in models):
            raise UserError(f"--model {option}: the name '{name}' is used twice")
        folder, _, file = place.rpartition(":") if place.endswith(".pth") else (place, "", "")
        exp = Path(folder or place)
        if not exp.is_dir():
            raise UserError(f"--model {option}: {exp} is not a directory; train the model first")
        named = Path(file or inference_model)
        checkpoint = named if file and named.is_file() else exp / named
        models.append(Model(name, stage, exp, checkpoint))
    return models
