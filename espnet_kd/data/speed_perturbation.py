"""Speed perturbation of a data directory: names only, `format_audio` makes the sound."""

import logging
from typing import List

from espnet_kd.data.kaldi_dir import Tables
from espnet_kd.errors import UserError


def parse_factors(factors: str) -> List[str]:
    """Split `"0.9 1.0 1.1"` into factors, kept as written because they name utterances.

    Raises:
        UserError: none given, one that is not between 0.5 and 2, or one given twice.
    """
    words = factors.split()
    values = []
    for word in words:
        try:
            value = float(word)
        except ValueError:
            value = 0.0
        if not 0.5 <= value <= 2:
            raise UserError(f"--factors: '{word}' is not a speed between 0.5 and 2")
        values.append(value)
    if not words or len(set(values)) < len(values):
        raise UserError(f"--factors '{factors}': give different factors, such as '0.9 1.0 1.1'")
    return words


def perturb(tables: Tables, factors: List[str]) -> Tables:
    """Return the tables with one copy of every utterance a factor.

    As in ESPnet's `perturb_data_dir_speed.sh`, utterances and speakers get the prefix
    `sp<factor>-`; at factor 1 they stay as they are.

    Raises:
        UserError: the directory was perturbed before.
    """
    if "utt2speed" in tables:
        raise UserError("the data directory has an utt2speed already: it was perturbed before")
    out: Tables = {"wav.scp": {}, "text": {}, "utt2spk": {}, "utt2speed": {}}
    for factor in factors:
        prefix = "" if float(factor) == 1 else f"sp{factor}-"
        for utt, path in tables["wav.scp"].items():
            out["wav.scp"][prefix + utt] = path
            out["text"][prefix + utt] = tables["text"][utt]
            out["utt2spk"][prefix + utt] = prefix + tables["utt2spk"][utt]
            out["utt2speed"][prefix + utt] = factor
            if "segments" in tables:
                times = tables["segments"][utt].partition(" ")[2]
                out.setdefault("segments", {})[prefix + utt] = f"{prefix}{utt} {times}"
    logging.info(
        f"{len(tables['wav.scp'])} utterances at {len(factors)} speeds: {len(out['wav.scp'])}"
    )
    return out
