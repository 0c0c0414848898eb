"""A Kaldi data directory as a dict of tables: `{"wav.scp": {utt: path}, "text": ...}`."""

import contextlib
import logging
from pathlib import Path
from typing import Dict, List, Mapping

from espnet_kd.errors import UserError
from espnet_kd.fileio import PathLike, atomic_path, read_table, write_table

Tables = Dict[str, Dict[str, str]]

NEEDED = ("wav.scp", "text", "utt2spk")
OPTIONAL = ("utt2speed", "utt2num_samples", "utt2condition")


def read_data_dir(path: PathLike) -> Tables:
    """Read a data directory; utterances that are not in every table are left out.

    `spk2utt` is not read: it follows from `utt2spk`.

    Raises:
        UserError: the directory or one of `wav.scp`, `text`, `utt2spk` is missing, or
            no utterance stands in all of them.
    """
    path = Path(path)
    if not path.is_dir():
        raise UserError(f"{path}: no such data directory; run the stage that makes it first")
    names = [*NEEDED, *(name for name in OPTIONAL if (path / name).exists())]
    tables = {name: read_table(path / name) for name in names}
    first = tables["wav.scp"].keys()
    if first and all(table.keys() == first for table in tables.values()):
        return tables  # as they are: copies of a large corpus take memory
    common = set.intersection(*(set(table) for table in tables.values()))
    if not common:
        raise UserError(f"{path}: no utterance stands in all of {', '.join(names)}")
    lost = len(set.union(*(set(table) for table in tables.values()))) - len(common)
    if lost:
        logging.warning(f"{path}: left out {lost} utterances that are not in every table")
    return select(tables, common)


def select(tables: Tables, keep) -> Tables:
    """Return the tables with the utterances in `keep` only."""
    return {
        name: {utt: value for utt, value in table.items() if utt in keep}
        for name, table in tables.items()
    }


def invert(utt2spk: Mapping[str, str]) -> Dict[str, str]:
    """Return `spk2utt` for `utt2spk`: speaker -> utterances in order, space-separated."""
    speakers: Dict[str, List[str]] = {}
    for utt in sorted(utt2spk):
        speakers.setdefault(utt2spk[utt], []).append(utt)
    return {spk: " ".join(utts) for spk, utts in speakers.items()}


def write_data_dir(path: PathLike, tables: Tables) -> None:
    """Write `tables` and `spk2utt` to `path`, replacing what an earlier run left there.

    Every table is complete beside its place before the first is renamed, so a full
    disk leaves the old directory as it was. `wav.scp` comes last: where it stands, the
    directory is complete.
    """
    path = Path(path)
    tables = {**tables, "spk2utt": invert(tables["utt2spk"])}
    names = sorted(tables, key=lambda name: name == "wav.scp")
    with contextlib.ExitStack() as stack:
        # ExitStack renames in reverse order of entry.
        for name in reversed(names):
            write_table(stack.enter_context(atomic_path(path / name)), tables[name])
    for name in OPTIONAL:
        if name not in tables:
            (path / name).unlink(missing_ok=True)
