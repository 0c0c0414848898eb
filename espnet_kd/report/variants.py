"""Models as devices would run them, a row a student and format: bytes, speed, delay, WER."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

from espnet_kd.common.json_file import rounded
from espnet_kd.common.records import Delay, Delayed, Factor, Late, Speed
from espnet_kd.deploy.artifact import Artifact, of_exported
from espnet_kd.errors import UserError
from espnet_kd.report.rows import Row
from espnet_kd.report.scores import Scores
from espnet_kd.scoring.bootstrap import Interval, paired_intervals
from espnet_kd.scoring.grouping import Grouping, group
from espnet_kd.spec.target import BYTES

ESPNET = "ESPnet"  # format of an experiment: its checkpoint in PyTorch
SEPARATOR = "/"  # between model and format in a name


@dataclass
class Variant:
    """A model in a format; None where the run did not measure it.

    Attributes:
        model: Name of the model in the report.
        format: `ESPnet`, or the number format of an exported folder.
        dir: Folder of its files.
        bytes: Size of the files that hold its numbers.
        rtf: Real-time factor, median and 95th percentile.
        decode_memory_mb: Peak memory of loading and decoding, 2^20 bytes.
        joules_per_hour: Energy of decoding an hour of audio, in joules.
        latency_ms: Longest time that a frame waits for what is behind it.
        chunk_ms: Length of a chunk.
        delay: Delays of tokens by kind: `token`, `first`, `last`, `frames` (without the waiting
            for a chunk), in milliseconds.
        wer: WER of greedy search in percent, over all utterances of `delay.json`.
        wer_diff: The same minus that of the first teacher.
        beyond: Reason why its export ended beyond the margin; empty: it did not. Such a variant
            has its row, but is on no front.
    """

    model: str
    format: str
    dir: str
    bytes: int
    rtf: Optional[Factor]
    decode_memory_mb: Optional[float]
    joules_per_hour: Optional[float]
    latency_ms: Optional[float]
    chunk_ms: Optional[float]
    delay: Dict[str, Optional[Late]]
    wer: Optional[float]
    wer_diff: Optional[Interval]
    beyond: str = ""

    @property
    def name(self) -> str:
        """Name model and format."""
        return self.model if self.format == ESPNET else f"{self.model} {self.format}"

    def to_json(self) -> Dict[str, Any]:
        """Return plain containers."""
        return rounded(asdict(self))


def parse_exported(options: Sequence[str], names: Sequence[str]) -> Dict[str, Path]:
    """Parse `--exported NAME/FORMAT=DIR`.

    Args:
        options: The options.
        names: Names of the models of the report.

    Raises:
        UserError: an option is malformed, or names no model of the report.
    """
    folders: Dict[str, Path] = {}
    for option in options:
        name, equals, folder = option.partition("=")
        model, separator, form = name.partition(SEPARATOR)
        if not (equals and separator and form and folder):
            raise UserError(f"--exported {option}: not of the form NAME{SEPARATOR}FORMAT=DIR")
        if model not in names:
            raise UserError(f"--exported {option}: no --model is named '{model}'")
        if name in folders:
            raise UserError(f"--exported {option}: the name '{name}' is used twice")
        folders[name] = Path(folder)
    return folders


def collect_variants(
    rows: Sequence[Row],
    exported: Mapping[str, Path],
    speed: Optional[Speed],
    delay: Optional[Delay],
    scores: Scores,
) -> List[Variant]:
    """Collect the figures of all models in all formats, model by model.

    Args:
        rows: The models, the first teacher first.
        exported: Exported folders by `<model>/<format>`.
        speed: What `speed.json` holds.
        delay: What `delay.json` holds.
        scores: Names draws and seed of the bootstrap.

    Raises:
        UserError: a folder is not what its `model.json` says.
    """
    differences = _differences(delay, rows[0].name, scores) if delay else {}
    variants = []
    for row in rows:
        size = round(row.size_mb * BYTES["MB"])
        variants.append(_variant(row.name, row.name, ESPNET, row.dir, size, speed, delay))
        for name, folder in exported.items():
            if name.partition(SEPARATOR)[0] == row.name:
                artifact = of_exported(folder)
                about = name, row.name, artifact.format, str(folder), _size(artifact)
                variants.append(_variant(*about, speed, delay))
                variants[-1].beyond = artifact.beyond
    for variant in variants:
        key = row_name(variant)
        variant.wer_diff = differences.get(key)
    return variants


def row_name(variant: Variant) -> str:
    """Return the name of a variant in `speed.json` and `delay.json`."""
    of_format = f"{variant.model}{SEPARATOR}{variant.format}"
    return variant.model if variant.format == ESPNET else of_format


def _size(artifact: Artifact) -> int:
    return sum(artifact.bytes[role] for role in artifact.weights)


def _variant(
    name: str,
    model: str,
    form: str,
    folder: str,
    size: int,
    speed: Optional[Speed],
    delay: Optional[Delay],
) -> Variant:
    measured = speed["models"].get(name) if speed else None
    late = delay["models"].get(name) if delay else None
    rtf = Factor(median=measured["median"], p95=measured["p95"]) if measured else None
    return Variant(
        model,
        form,
        folder,
        size,
        rtf,
        measured.get("peak_memory_mb") if measured else None,
        measured.get("joules_per_hour") if measured else None,
        late.get("latency_ms") if late else None,
        late.get("chunk_ms") if late else None,
        _kinds(late) if late else {},
        100 * sum(late["errors"]) / sum(delay["words"]) if late and delay else None,
        None,
    )


def _kinds(late: Delayed) -> Dict[str, Optional[Late]]:
    return {
        "token": late.get("token"),
        "first": late.get("first"),
        "last": late.get("last"),
        "frames": late.get("frames"),
    }


def _differences(delay: Delay, first: str, scores: Scores) -> Dict[str, Interval]:
    """Return the WER of all models minus that of the first teacher, in points."""
    if first not in delay["models"]:
        return {}
    others = [name for name in delay["models"] if name != first]
    if not others:
        return {}
    sums = grouping_of(delay, scores.drawn_by).sums
    errors = [sums(delay["models"][name]["errors"]) for name in others]
    baselines = [sums(delay["models"][first]["errors"])] * len(others)
    words = sums(delay["words"])
    intervals = paired_intervals(errors, baselines, words, scores.draws, scores.seed)
    return dict(zip(others, intervals))


def grouping_of(delay: Delay, drawn_by: str) -> Grouping:
    """Group the utterances as those of the test sets (`grouping.group`).

    Older records name no speakers, or no recordings.
    """
    names = [str(k) for k in range(delay["utterances"])]
    speakers, sources = delay.get("speakers", names), delay.get("sources", names)
    return group(names, dict(zip(names, speakers)), dict(zip(names, sources)), drawn_by)


def pareto_front(points: Sequence[Sequence[float]]) -> List[int]:
    """Return which points no other one beats, by rising first coordinate.

    Args:
        points: Pairs of which less is better: a cost and an error rate.

    Returns:
        Numbers of the points. Of several at one place the first.
    """
    front: List[int] = []
    for k in sorted(range(len(points)), key=lambda k: (*points[k], k)):
        if not front or points[k][1] < points[front[-1]][1]:
            front.append(k)
    return front
