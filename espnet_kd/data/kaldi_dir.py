"""A Kaldi data directory as a dict of tables: `{"wav.scp": {utt: path}, "text": ...}`."""

import contextlib
import logging
import re
from pathlib import Path
from typing import Container, Dict, List, Mapping, Optional

from espnet_kd.data import identity
from espnet_kd.data.audio_source import read_wav_scp
from espnet_kd.data.bad_items import NO_TRANSCRIPT, UNTRANSCRIBED, BadItems
from espnet_kd.data.segments import by_utterance, refuse_choice_of_channel
from espnet_kd.errors import UserError
from espnet_kd.fileio import PathLike, atomic_path, read_table, write_table
from espnet_kd.scoring.conditions import LABELS

Tables = Dict[str, Dict[str, str]]

NEEDED = ("wav.scp", "text", "utt2spk")
OPTIONAL = ("segments", "utt2speed", "utt2num_samples", *LABELS)
LACKS = {
    "wav.scp": "utterances without audio",
    "text": NO_TRANSCRIPT,
    "utt2spk": "utterances without a speaker",
}


def read_data_dir(
    path: PathLike, bad: Optional[BadItems] = None, untranscribed: bool = False
) -> Tables:
    """Read a data directory.

    `spk2utt` is read where there is no `utt2spk` only; without both each utterance has a speaker
    of its own. With `segments`, `wav.scp` of the result
    is keyed by utterance, too, and each utterance is a part of the recording of its name.

    Args:
        path: The directory.
        bad: Takes the utterances that lack audio, transcript or speaker, which are left out;
            the caller refuses too many. None: there must be none, as in a directory that an
            earlier stage wrote.
        untranscribed: Whether transcripts may be missing; they become empty.

    Raises:
        UserError: a table that is needed is missing or empty, one that is optional holds only
            some of the utterances, or there are utterances that are not in all tables.
    """
    path = Path(path)
    if not path.is_dir():
        raise UserError(f"{path}: no such data directory; run the stage that makes it first")
    names = [name for name in OPTIONAL if (path / name).exists()]
    tables = {"wav.scp": read_wav_scp(path), "text": {}}
    tables.update({name: read_table(path / name) for name in names})
    if not untranscribed and bad is not None and not (path / "text").exists():
        maker = 2 if (path / "utt2speed").exists() else 1
        raise UserError(
            f"{path}/text: no such file; run stage {maker} again, which makes it, or put it back "
            f"({UNTRANSCRIBED})"
        )
    if not untranscribed or (path / "text").exists():
        tables["text"] = read_table(path / "text")
    if untranscribed:
        utts = tables.get("segments", tables["wav.scp"])
        tables["text"] = {**dict.fromkeys(utts, ""), **tables["text"]}
    made = bad is not None and not (path / "utt2spk").exists()  # in a directory of the user's
    tables["utt2spk"] = _speakers(path, tables["text"]) if made else read_table(path / "utt2spk")
    refuse_choice_of_channel(path, tables["wav.scp"])
    record = identity.read_record(path)
    if "segments" in tables:
        parts = by_utterance(tables["segments"], tables["wav.scp"], f"{path}/segments")
        tables["segments"], tables["wav.scp"] = parts
    first = tables["wav.scp"].keys()
    if not (first and all(table.keys() == first for table in tables.values())):
        tables = _complete(tables, path, bad)  # else as they are: copies take memory
    for utt, speaker in tables["utt2spk"].items():
        if not re.fullmatch(r"\S+", speaker):
            raise UserError(f"{path}/utt2spk: '{utt}' has '{speaker}'; one word is needed")
    for utt, file in tables["wav.scp"].items():
        if file != file.strip():  # of Unicode: ESPnet takes that away
            raise UserError(f"{path}/wav.scp: '{utt}' has {ascii(file)}: white space at its ends")
    if record:  # it may lack some of the utterances: what is not known is looked up
        tables[identity.NAME] = identity.lines_of(tables["wav.scp"], record)
    return tables


def _speakers(path: Path, text: Mapping[str, str]) -> Dict[str, str]:
    """Make `utt2spk`."""
    if (path / "spk2utt").exists():
        logging.warning(f"{path}: no utt2spk; made of spk2utt")
        speakers = read_table(path / "spk2utt").items()
        return {utt: speaker for speaker, utts in speakers for utt in utts.split()}
    logging.warning(f"{path}: no utt2spk; each utterance is taken for a speaker of its own")
    return {utt: utt for utt in text}


def _complete(tables: Tables, path: Path, bad: Optional[BadItems]) -> Tables:
    """Leave out the utterances that do not stand in every table that is needed."""
    some = dict.fromkeys(utt for name in NEEDED for utt in tables[name])
    keep = {utt for utt in some if all(utt in tables[name] for name in NEEDED)}
    if not keep:
        counts = ", ".join(f"{len(tables[name])} in {name}" for name in NEEDED)
        raise UserError(f"{path}: no utterance stands in all of its tables ({counts})")
    if len(keep) < len(some):
        strict = bad is None
        bad = BadItems(str(path), 0.0) if bad is None else bad
        for utt in some:
            for name in NEEDED:
                if utt not in tables[name]:
                    bad.add(LACKS[name], utt)
                    break
        if strict:
            raise UserError(
                f"{path}: of {len(some)} utterances, {bad.describe()}; the stage that makes the "
                "directory leaves none: run it again"
            )
    for name in tables.keys() - set(NEEDED):
        lacking = [utt for utt in some if utt in keep and utt not in tables[name]]
        if lacking:
            raise UserError(
                f"{path}/{name}: lacks {len(lacking)} of {len(keep)} utterances (e.g. "
                f"{lacking[0]}); complete it, or remove it"
            )
    return select(tables, keep)


def select(tables: Tables, keep: Container[str]) -> Tables:
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
    for name in (*OPTIONAL, identity.NAME):
        if name not in tables:
            (path / name).unlink(missing_ok=True)
