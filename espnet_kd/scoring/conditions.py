"""Under which condition an utterance was recorded: `utt2condition`, e.g. `u1 snr5`."""

import re
from pathlib import Path
from typing import Dict, Iterable, List, Tuple, Union

from espnet_kd.errors import UserError
from espnet_kd.fileio import read_table, write_table

NAME = "utt2condition"
_NUMBER = re.compile(r"(-?\d+(?:\.\d+)?)")


def read_conditions(folder: Path, utterances: Iterable[str]) -> Dict[str, str]:
    """Read the label of each of `utterances`; empty if `folder` has no `utt2condition`.

    Raises:
        UserError: an utterance has no label, or one that is not a single word.
    """
    path = folder / NAME
    if not path.is_file():
        return {}
    table = read_table(path)
    for utt in utterances:
        if utt not in table:
            raise UserError(f"{path}: no label for '{utt}'; give each utterance one, or remove it")
        if not re.fullmatch(r"[^\s|`]+", table[utt]):
            raise UserError(f"{path}: the label of '{utt}' is '{table[utt]}'; one word is needed")
    return {utt: table[utt] for utt in utterances}


def copy_conditions(folder: Path, utterances: Iterable[str], out: Path) -> None:
    """Copy the labels of `utterances` from a data directory to scores that lie in `out`."""
    labels = read_conditions(folder, utterances)
    if labels:
        write_table(out / NAME, labels)
    elif out.resolve() != folder.resolve():
        (out / NAME).unlink(missing_ok=True)  # of an earlier scoring


def in_order(labels: Iterable[str]) -> List[str]:
    """Sort labels as people do: snr-5, snr0, snr5, snr10. A hyphen before a digit is a minus."""

    def key(label: str) -> Tuple[List[Tuple[int, Union[float, str]]], str]:
        parts = [part for part in _NUMBER.split(label) if part]
        numeric = [(0, float(p)) if _NUMBER.fullmatch(p) else (1, p) for p in parts]
        return numeric, label

    return sorted(set(labels), key=key)
