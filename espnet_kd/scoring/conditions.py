"""What a label says of each utterance.

`utt2condition` (`u1-snr5 snr5`) names the condition under which it was recorded, `utt2source`
(`u1-snr5 u1`) the recording that it was made of.
"""

import re
from pathlib import Path
from typing import Dict, Iterable, List, Tuple, Union

from espnet_kd.errors import UserError
from espnet_kd.fileio import read_table, write_table

CONDITION, SOURCE = LABELS = ("utt2condition", "utt2source")
_NUMBER = re.compile(r"(-?\d+(?:\.\d+)?)")


def read_labels(folder: Path, utterances: Iterable[str], name: str = CONDITION) -> Dict[str, str]:
    """Read the label of each of `utterances`; empty if `folder` has no such table.

    Raises:
        UserError: an utterance has no label, or one that is not a single word.
    """
    path = folder / name
    if not path.is_file():
        return {}
    table = read_table(path)
    for utt in utterances:
        if utt not in table:
            raise UserError(f"{path}: no label for '{utt}'; give each utterance one, or remove it")
        if not re.fullmatch(r"[^\s|`]+", table[utt]):
            raise UserError(f"{path}: the label of '{utt}' is '{table[utt]}'; one word is needed")
    return {utt: table[utt] for utt in utterances}


def copy_labels(folder: Path, utterances: Iterable[str], out: Path) -> None:
    """Copy the labels of `utterances` from a data directory to scores that lie in `out`."""
    wanted = list(utterances)
    for name in LABELS:
        labels = read_labels(folder, wanted, name)
        if labels:
            write_table(out / name, labels)
        elif out.resolve() != folder.resolve():
            (out / name).unlink(missing_ok=True)  # of an earlier scoring


def in_order(labels: Iterable[str]) -> List[str]:
    """Sort labels as people do: snr-5, snr0, snr5, snr10. A hyphen before a digit is a minus."""

    def key(label: str) -> Tuple[List[Tuple[int, Union[float, str]]], str]:
        parts = [part for part in _NUMBER.split(label) if part]
        numeric = [(0, float(p)) if _NUMBER.fullmatch(p) else (1, p) for p in parts]
        return numeric, label

    return sorted(set(labels), key=key)
