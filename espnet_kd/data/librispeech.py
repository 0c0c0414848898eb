"""LibriSpeech's folder layout -> Kaldi tables.

    <corpus>/<set>/<speaker>/<chapter>/<utterance>.<flac|opus|...>
    <corpus>/<set>/<speaker>/<chapter>/<speaker>-<chapter>.trans.txt

A set may hold 280,000 files on a network disk, so folders are listed with `scandir`
and chapters are read by threads, which wait together; only headers are read.
"""

import contextlib
import dataclasses
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Dict, Generator, List, NamedTuple, Sequence, Set, Tuple, Union, cast

import soundfile

from espnet_kd.data.audio import BadAudio, read_header
from espnet_kd.data.bad_items import BadItems
from espnet_kd.data.kaldi_dir import Tables
from espnet_kd.data.librispeech_parts import warn_if_incomplete
from espnet_kd.errors import UserError, nearest
from espnet_kd.fileio import read_table
from espnet_kd.progress import track

# RAW needs a rate that no header gives.
EXTENSIONS = {f".{name.lower()}" for name in soundfile.available_formats()} - {".raw"} | {
    ".opus", ".oga", ".aif", ".wave", ".sph",
}  # fmt: skip
THREADS = 16


class Chapter(NamedTuple):
    """Content of one chapter's folder."""

    utts: List[Tuple[str, str, str]]  # (utterance, path, text)
    bad: List[Tuple[str, str]]  # (kind, name)
    seconds: float


@dataclasses.dataclass
class Held:
    """Content of one set."""

    utterances: int = 0
    seconds: float = 0.0
    chapters: Set[str] = dataclasses.field(default_factory=set)

    def add(self, chapter: Chapter, number: str) -> None:
        """Count the usable utterances of a chapter."""
        self.utterances += len(chapter.utts)
        self.seconds += chapter.seconds
        if chapter.utts:
            self.chapters.add(number)


def find_corpus(corpus: str) -> Path:
    """Return the folder that holds the sets: `corpus`, or `LibriSpeech` inside it.

    Raises:
        UserError: the folder is missing or empty.
    """
    root = Path(corpus)
    if not root.is_dir():
        raise UserError(f"{corpus}: no such corpus folder; name yours with --corpus")
    if (root / "LibriSpeech").is_dir():
        root = root / "LibriSpeech"
    if not _folders(root):
        there = sorted(path.name for path in root.iterdir())[:8]
        what = "the corpus folder is empty"
        if there:
            what = f"no folder in it (but {' '.join(there)})"
        raise UserError(
            f"{root}: {what}; it must hold <set>/<speaker>/<chapter>. Other corpora: --corpus DIR"
        )
    return root


def prepare(corpus: str, sets: Sequence[str], max_bad_share: float) -> Tables:
    """Read sets of a corpus into one set of tables.

    The speaker is `<speaker>-<chapter>`, as in Kaldi's and ESPnet's LibriSpeech recipe.
    Where an utterance has several sound files, `.flac`, then `.wav`, then the first by
    name is taken.

    Args:
        corpus: The folder with the sets, or its parent.
        sets: Names of the sets to read and combine.
        max_bad_share: Share of utterances that may lack audio or transcript, or be
            unreadable; they are skipped.

    Returns:
        `wav.scp`, `text` and `utt2spk`.

    Raises:
        UserError: corpus or set missing or empty, an utterance twice, too many bad ones.
    """
    root = find_corpus(corpus)
    chapters: List[Tuple[str, str]] = []  # (set, folder)
    readers = set()
    for name in sets:
        for reader in _set_folders(root, name):
            readers.add(os.path.basename(reader))
            chapters.extend((name.replace("_", "-"), folder) for folder in _folders(reader))

    wav: Dict[str, str] = {}
    text: Dict[str, str] = {}
    utt2spk: Dict[str, str] = {}
    bad = BadItems(f"{root} ({' '.join(sets)})", max_bad_share)
    held = {name.replace("_", "-"): Held() for name in sets}
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(THREADS))
        # Which `pool.map` returns, though its types say less.
        read = cast(
            "Generator[Chapter, None, None]",
            pool.map(read_chapter, [folder for _, folder in chapters]),
        )
        # closing: after an error or Ctrl-C the chapters still waiting are not read.
        stack.enter_context(contextlib.closing(read))
        label = f"prepare {' '.join(sets)}"
        for chapter, (name, folder) in zip(
            track(read, label, total=len(chapters), unit="chapters"), chapters
        ):
            speaker = "-".join(folder.split(os.sep)[-2:])  # <speaker>-<chapter>
            held[name].add(chapter, os.path.basename(folder))
            for kind, what in chapter.bad:
                bad.add(kind, what)
            for utt, path, words in chapter.utts:
                if utt in wav:
                    raise UserError(f"duplicate utterance '{utt}': {wav[utt]} and {path}")
                wav[utt], text[utt], utt2spk[utt] = path, words, speaker

    if not wav and not bad.count:
        raise UserError(
            f"{bad.where}: no utterance found; expected <speaker>/<chapter>/<utterance>.flac and "
            "<speaker>-<chapter>.trans.txt"
        )
    bad.refuse_beyond_share(len(wav) + bad.count)
    bad.log()
    if not wav:
        raise UserError(f"{bad.where}: no usable utterance is left")
    for name, h in held.items():
        warn_if_incomplete(root, name, h.utterances, h.seconds / 3600, h.chapters)
    seconds = sum(h.seconds for h in held.values())
    logging.info(
        f"{' '.join(sets)}: {len(wav)} utterances, {seconds / 3600:.2f} hours, "
        f"{len(readers)} speakers, {len(set(utt2spk.values()))} speaker-chapters"
    )
    return {"wav.scp": wav, "text": text, "utt2spk": utt2spk}


def read_chapter(folder: str) -> Chapter:
    """Match the sound files of a chapter with its transcript and read their headers.

    Raises:
        UserError: a transcript that is no table, or two that hold one utterance.
    """
    audio: Dict[str, str] = {}
    text: Dict[str, str] = {}
    with os.scandir(folder) as entries:
        # The best file of an utterance comes last and stays in the dict.
        for entry in sorted(entries, key=lambda e: _preference(e.name), reverse=True):
            stem, extension = os.path.splitext(entry.name)
            if entry.name.startswith("."):  # macOS leaves `._<name>.flac` beside each file
                continue
            if entry.name.endswith(".trans.txt"):
                for utt, words in read_table(entry.path).items():
                    if utt in text:
                        raise UserError(f"{entry.path}: duplicate utterance '{utt}' in {folder}")
                    text[utt] = " ".join(words.split())
            elif extension.lower() in EXTENSIONS:
                audio[stem] = entry.path
    chapter = Chapter([], [], 0.0)
    chapter.bad.extend(("transcripts without audio", utt) for utt in sorted(text.keys() - audio))
    chapter.bad.extend(
        ("sound files without transcript", audio[utt]) for utt in sorted(audio.keys() - text)
    )
    seconds = 0.0
    for utt in sorted(audio.keys() & text):
        try:
            header = read_header(audio[utt])
        except BadAudio as e:
            chapter.bad.append(("unusable sound files", f"{audio[utt]}: {e}"))
            continue
        seconds += header.frames / header.rate
        chapter.utts.append((utt, audio[utt], text[utt]))
    return chapter._replace(seconds=seconds)


def _preference(name: str) -> Tuple[bool, bool, str]:
    extension = os.path.splitext(name)[1].lower()
    return extension != ".flac", extension != ".wav", name


def _folders(path: "Union[str, os.PathLike[str]]") -> List[str]:
    with os.scandir(path) as entries:
        return sorted(e.path for e in entries if e.is_dir() and not e.name.startswith("."))


def _set_folders(root: Path, name: str) -> List[str]:
    # Data directories are named with underscores; a set may be named like them.
    for folder in (root / name, root / name.replace("_", "-")):
        if folder.is_dir():
            return _folders(folder)
    known = [os.path.basename(folder) for folder in _folders(root)]
    more = ", ..." if len(known) > 10 else ""
    raise UserError(
        f"{root}: holds no set '{name}'{nearest(name, known)}; it has "
        f"{', '.join(known[:10])}{more}"
    )
