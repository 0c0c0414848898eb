"""A corpus of one's own -> Kaldi tables for training, validation and tests.

`--data` says how the corpus is read: `csv`, `tsv`, `jsonl`, `folder`, or `kaldi` for data
directories of Kaldi or ESPnet (`data/`, `dump/raw/`). Sets are known by their names; those that
are missing are split off the training set.
"""

import logging
import os
import re
import shlex
import shutil
from pathlib import Path
from typing import Dict, Iterable, List, NamedTuple, Sequence, Set, Tuple

from espnet_kd.data import identity
from espnet_kd.data.audio_source import is_command, place_of, read_wav_scp, resolved
from espnet_kd.data.bad_items import NO_TRANSCRIPT, UNTRANSCRIBED, BadItems
from espnet_kd.data.corpus_split import split_off
from espnet_kd.data.corpus_tables import BY_FFMPEG, Item, read_folder, read_items
from espnet_kd.data.kaldi_dir import Tables, read_data_dir, select
from espnet_kd.errors import UserError

KINDS = ("csv", "tsv", "jsonl", "folder", "kaldi")
ENDINGS = {"csv": (".csv",), "tsv": (".tsv",), "jsonl": (".jsonl", ".json", ".ndjson")}
# Other names that sets go by.
ALIASES = (
    ("train", "training", "tr", "train_set"),
    ("dev", "valid", "validation", "val", "cv", "valid_set"),
    ("test", "eval", "evaluation", "tt", "test_set"),
)
DOWNLOADS = "downloads"
NOT_THERE = "sound files that are not there"
LOOKED_FOR = (
    "relative paths are looked for in the current folder, the data directory and the folders "
    "above it"
)
UNWRITABLE = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\ud800-\\udfff]")  # in UTF-8, on a line


class SetNames(NamedTuple):
    """Names of the sets that the recipe wants."""

    train: str
    valid: str
    tests: Tuple[str, ...]

    def all(self) -> List[str]:
        """Every name once."""
        return list(dict.fromkeys((self.train, self.valid, *self.tests)))

    def aliases(self, name: str) -> List[str]:
        """Return the names under which a corpus may have a set, lower case, the best first."""
        role = 0 if name == self.train else 1 if name == self.valid else 2
        plain = name.lower()
        known = ALIASES[role] if role < 2 or self.tests == (name,) else ()
        return [plain, plain.replace("_", "-"), *known]


def kind_of(corpus: Path) -> str:
    """Guess how a corpus is to be read.

    Raises:
        UserError: It is not there, or of no known kind.
    """
    if not corpus.exists():
        raise UserError(f"--corpus {corpus}: no such file or folder")
    if corpus.is_file():
        for kind, endings in ENDINGS.items():
            if corpus.suffix.lower() in endings:
                return kind
    if not corpus.is_dir():
        raise UserError(f"--corpus {corpus}: neither a folder nor a .csv, .tsv, .jsonl or .json")
    if _kaldi_dirs(corpus):
        return "kaldi"
    for kind in ENDINGS:
        if _tables(corpus, kind):
            return kind
    return "folder"


def import_corpus(
    kind: str, corpus: Path, names: SetNames, bad: BadItems, untranscribed: bool = False
) -> Dict[str, Tables]:
    """Read a corpus.

    Args:
        kind: One of `KINDS`; empty: guess.
        corpus: File or folder.
        names: Sets that are wanted.
        bad: Takes utterances without audio or transcript.
        untranscribed: Whether transcripts of the training set may be missing; they become empty.

    Returns:
        Tables of each set.

    Raises:
        UserError: It cannot be read, or has too many utterances that cannot be used.
    """
    if not kind:
        kind = kind_of(corpus)
        logging.info(f"{corpus}: read as --data {kind}")
    elif not corpus.exists():
        raise UserError(f"--corpus {corpus}: no such file or folder")
    if kind in ("folder", "kaldi") and not corpus.is_dir():
        raise UserError(f"--data {kind} --corpus {corpus}: is a file; a folder is expected")
    if corpus.is_dir() and not any(corpus.iterdir()):
        raise UserError(f"--corpus {corpus}: the folder is empty")
    if kind == "kaldi":
        return _import_kaldi(corpus, names, bad, untranscribed)
    sets = _item_sets(kind, corpus, names)
    total = sum(map(len, sets.values()))
    usable = {
        name: _usable(items, bad, untranscribed and name == names.train)
        for name, items in sets.items()
    }
    bad.refuse_beyond_share(total)
    bad.log()
    if not all(item.text for item in usable.get(names.train, ())):
        _refuse_to_split(usable, names, corpus)
    _split(usable, names, str(corpus))
    return {name: _tables_of(usable[name], f"{corpus} ({name})") for name in names.all()}


# ------------------------------------------------------------------ tables and folders
def _item_sets(kind: str, corpus: Path, names: SetNames) -> Dict[str, List[Item]]:
    """Read all items, by set; what has no set of its own is to train on."""
    if kind == "folder":
        folders = {path.name.lower(): path for path in corpus.iterdir() if path.is_dir()}
        files = _by_role(folders, names)
        sets = {name: read_folder(path) for name, path in files.items()}
        if names.train not in sets:  # it is all that is in no folder of another set
            return {**sets, names.train: read_folder(corpus, files.values())}
        other = sorted(path.name for path in folders.values() if path not in files.values())
        if other:
            logging.warning(
                f"{corpus}: folders that are not used, since {files[names.train].name}/ is there "
                f"to train on: {' '.join(other[:8])}{' ...' * (len(other) > 8)}"
            )
        return sets
    if not corpus.is_dir():
        return _by_column(read_items(corpus, kind), names, str(corpus))
    tables = _tables(corpus, kind)
    files = _by_role(tables, names)
    whole = tables.get("metadata") or tables.get("manifest")
    if names.train in files:
        whole = None
    elif whole:
        files[names.train] = whole
    else:
        there = " ".join(sorted(path.name for path in corpus.iterdir())[:8]) or "nothing"
        raise UserError(
            f"--data {kind} --corpus {corpus}: no {names.train}{ENDINGS[kind][0]} in it; "
            f"there are {there}: name the table itself with --corpus, or --train_set; sounds "
            "with a .txt beside each are --data folder"
        )
    items = {name: read_items(path, kind) for name, path in files.items()}
    if whole or len(items) == 1:
        items = {**_by_column(items.pop(names.train), names, str(files[names.train])), **items}
    return items


def _tables(folder: Path, kind: str) -> Dict[str, Path]:
    """Return the tables of a folder by their names, lower case, without `_manifest`."""
    return {
        re.sub(r"[_-]?manifest$", "", path.stem.lower()) or "manifest": path
        for path in sorted(folder.iterdir(), reverse=True)
        if path.is_file() and path.suffix.lower() in ENDINGS[kind]
    }


def _by_role(there: Dict[str, Path], names: SetNames) -> Dict[str, Path]:
    """Return which of the files or folders that are there each wanted set is."""
    roles: Dict[str, Path] = {}
    for name in names.all():
        for alias in names.aliases(name):
            if alias in there and there[alias] not in roles.values():
                roles[name] = there[alias]
                break
    return roles


def _by_column(items: List[Item], names: SetNames, where: str) -> Dict[str, List[Item]]:
    """Part items by their column `split`."""
    given = list(dict.fromkeys(item.set for item in items))
    if given == [""]:
        return {names.train: items}
    roles: Dict[str, str] = {}
    for name in names.all():
        aliases = names.aliases(name)
        for alias in aliases:
            known = [word for word in given if word.lower() == alias and word not in roles]
            if known:
                roles.update(dict.fromkeys(known, name))
                break
    if names.train not in roles.values():
        raise UserError(
            f"{where}: no row of its column of sets is '{names.train}'; there are "
            f"{', '.join(map(repr, given[:8]))}: name them with --train_set, --valid_set and "
            "--test_sets"
        )
    other = [word for word in given if word not in roles]
    if other:
        logging.warning(f"{where}: rows of the sets {', '.join(map(repr, other))} are not used")
    sets: Dict[str, List[Item]] = {}
    for item in items:
        if item.set in roles:
            sets.setdefault(roles[item.set], []).append(item)
    return sets


def _refuse_to_split(sets: Iterable[str], names: SetNames, corpus: Path) -> None:
    missing = [name for name in names.all() if name not in sets]
    if missing:
        raise UserError(
            f"--corpus {corpus}: the training set lacks transcripts, so that {' '.join(missing)} "
            "cannot be split off it; the corpus must have these sets, with transcripts"
        )


def _usable(items: Sequence[Item], bad: BadItems, untranscribed: bool) -> List[Item]:
    usable = []
    for item in items:
        if is_command(item.audio):
            raise UserError(
                f"{item.where}: the audio is a command ({item.audio}); commands are taken from "
                "wav.scp of Kaldi directories only"
            )
        if not item.audio:
            bad.add("rows without a sound file", item.where)
        elif not os.path.isfile(item.audio):
            bad.add(NOT_THERE, item.audio)
        elif not item.audio.isprintable() and UNWRITABLE.search(item.audio):
            bad.add("sound files whose names cannot stand in a table", ascii(item.audio))
        elif not item.text and not untranscribed:
            bad.add(NO_TRANSCRIPT, item.where)
        else:
            usable.append(item)
    return usable


def _split(sets: Dict[str, List[Item]], names: SetNames, where: str) -> None:
    missing = [name for name in names.all() if not sets.get(name)]
    if names.train in missing:
        raise UserError(f"{where}: no usable utterance to train on")
    if missing:
        parts = split_off(sets[names.train], lambda item: item.speaker, missing, where)
        sets[names.train] = parts.pop("")
        sets.update(parts)


def _tables_of(items: Sequence[Item], where: str) -> Tables:
    """Make Kaldi tables; the name of an utterance begins with its speaker's."""
    tables: Tables = {"wav.scp": {}, "text": {}, "utt2spk": {}}
    parts = any(item.is_part for item in items)
    recordings: Dict[str, str] = {}
    spoken = all(item.speaker for item in items)
    for item in items:
        name = _name(item.utt or _stem(item.audio))
        speaker = _name(item.speaker) if spoken else ""
        utt = name if name.startswith(speaker) else f"{speaker}-{name}"
        if item.is_part and not item.utt:
            utt += f"-{round(item.start * 1000):08d}"
        utt = _another(utt, tables["text"])
        tables["text"][utt] = item.text or ""
        tables["utt2spk"][utt] = speaker or utt
        if not parts:
            tables["wav.scp"][utt] = _entry(item)
            continue
        recording = recordings.get(item.audio)
        if recording is None:
            recording = recordings[item.audio] = _another(_stem(item.audio), tables["wav.scp"])
            tables["wav.scp"][recording] = _entry(item)
        segments = tables.setdefault("segments", {})
        segments[utt] = f"{recording} {round(item.start, 6)} {round(item.end, 6)}"
    speakers = len(set(tables["utt2spk"].values())) if spoken else "unknown"
    logging.info(f"{where}: {len(tables['text'])} utterances, speakers: {speakers}")
    return tables


def _entry(item: Item) -> str:
    """Return the entry of `wav.scp`; ffmpeg decodes what libsndfile does not."""
    if os.path.splitext(item.audio)[1].lower() not in BY_FFMPEG:
        return item.audio
    if shutil.which("ffmpeg") is None:
        raise UserError(
            f"{item.where}: {item.audio} is decoded by ffmpeg, which is not installed; install "
            "it, or convert the files to WAV or FLAC"
        )
    words = "ffmpeg", "-nostdin", "-v", "error", "-i", item.audio, "-vn", "-f", "wav", "-"
    return f"{shlex.join(words)} |"


def _stem(path: str) -> str:
    return _name(os.path.splitext(os.path.basename(path))[0])


def _name(word: str) -> str:
    """Make a word that is one field of Kaldi's tables."""
    return re.sub(r"[^\w.+@%-]+", "_", word.replace("/", "-")).strip("_-") or "x"


def _another(name: str, taken: Dict[str, str]) -> str:
    """Return the name, or with a number if it is taken."""
    if name not in taken:
        return name
    n = 2
    while f"{name}-{n}" in taken:
        n += 1
    return f"{name}-{n}"


# ------------------------------------------------------------------ Kaldi
def _kaldi_dirs(corpus: Path) -> Dict[str, Path]:
    """Return the data directories of a folder: itself, those in it, in `data/` or `dump/raw/`."""
    if (corpus / "wav.scp").is_file():
        return {"": corpus}
    for below in ("", "dump/raw", "raw", "data"):
        folder = corpus / below
        if folder.is_dir():
            dirs = {p.name.lower(): p for p in folder.iterdir() if (p / "wav.scp").is_file()}
            if dirs:
                return dirs
    return {}


def _import_kaldi(
    corpus: Path, names: SetNames, bad: BadItems, untranscribed: bool
) -> Dict[str, Tables]:
    there = _kaldi_dirs(corpus)
    if not there:
        inside = " ".join(sorted(path.name for path in corpus.iterdir())[:8])
        raise UserError(
            f"--data kaldi --corpus {corpus}: no wav.scp in it, in its folders, in data/ or in "
            f"dump/raw/; it has {inside}"
        )
    dirs = {names.train: there[""]} if "" in there else _by_role(there, names)
    if names.train not in dirs:
        raise UserError(
            f"--data kaldi --corpus {corpus}: no data directory for --train_set {names.train}; "
            f"there are {', '.join(sorted(path.name for path in there.values()))}"
        )
    sets = {
        name: _read_kaldi(path, bad, untranscribed and name == names.train)
        for name, path in dirs.items()
    }
    bad.refuse_beyond_share(sum(len(tables["text"]) for tables in sets.values()) + bad.count)
    bad.log()
    missing = [name for name in names.all() if name not in sets]
    if not all(sets[names.train]["text"].values()):
        _refuse_to_split(sets, names, corpus)
    if missing:
        tables = sets[names.train]
        speakers = tables["utt2spk"]
        one_each = len(set(speakers.values())) == len(speakers)  # nobody knows them
        parts = split_off(
            sorted(speakers), lambda utt: "" if one_each else speakers[utt], missing, str(corpus)
        )
        parts[names.train] = parts.pop("")
        sets.update({name: select(tables, set(utts)) for name, utts in parts.items()})
    return {name: sets[name] for name in names.all()}


def _read_kaldi(folder: Path, bad: BadItems, untranscribed: bool) -> Tables:
    if not untranscribed and not (folder / "text").is_file():
        raise UserError(
            f"{folder}: no text; transcripts are needed, a line '<utterance> <words>'; "
            f"{UNTRANSCRIBED}"
        )
    # Wherever a link to it lies.
    places = os.path.abspath(folder), os.path.realpath(folder)
    trusted = all(DOWNLOADS not in Path(place).parts for place in places)
    commands = [value for value in read_wav_scp(folder).values() if is_command(value)]
    if commands and not trusted:
        raise UserError(
            f"{folder}/wav.scp: {len(commands)} entries are commands (e.g. '{commands[0]}'), and "
            "it lies in a folder of downloads: none is run; copy the directory if you trust it"
        )
    tables = read_data_dir(folder, bad, untranscribed)
    tables["wav.scp"] = resolved(tables["wav.scp"], folder)
    gone = _gone(tables["wav.scp"].values())
    if gone:
        wav = tables["wav.scp"]
        tables = select(tables, {utt for utt, value in wav.items() if value not in gone})
        if not tables["wav.scp"]:
            raise UserError(
                f"{folder}/wav.scp: no sound file of it is there (e.g. '{next(iter(gone))}'); "
                f"{LOOKED_FOR}: write absolute ones, or copy the directory to where they begin"
            )
        for utt, value in wav.items():
            if value in gone:
                where = "" if os.path.isabs(value) else f" ({LOOKED_FOR})"
                bad.add(NOT_THERE + where, f"{utt}: {value}")
    logging.info(f"{folder}: {len(tables['text'])} utterances")
    left = ("utt2num_samples", identity.NAME)  # are made anew
    return {name: table for name, table in tables.items() if name not in left}


def _gone(values: Iterable[str]) -> Set[str]:
    """Return the entries of `wav.scp` whose file or archive is not there; a command is run later.

    Each is looked at once: a recording stands there for all its utterances.
    """
    gone = set()
    for value in set(values):
        place = place_of(value)
        path = value if place is None else place.path
        if not is_command(value) and not os.path.isfile(path):
            gone.add(value)
    return gone
