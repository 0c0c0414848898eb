"""Tables of a corpus (csv, tsv, json lines) and folders of sounds with transcripts, item by item.

Common Voice's tsv, NeMo's manifests, Hugging Face's `metadata.csv` and `metadata.jsonl`,
DeepSpeech's csv and `audio,text` differ in the names of their columns only: `COLUMNS` has all.
"""

import csv
import io
import json
import os
from pathlib import Path
from typing import (
    Collection,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

from espnet_kd.data.librispeech import EXTENSIONS
from espnet_kd.errors import UserError, shown

COLUMNS: Dict[str, Tuple[str, ...]] = {
    "audio": ("audio", "audio_filepath", "audio_path", "audio_file", "path", "file", "file_name",
              "filename", "wav_filename", "wav", "wav_path"),
    "text": ("text", "sentence", "transcript", "transcription", "normalized_text", "normalized"),
    "speaker": ("speaker", "speaker_id", "client_id", "spk", "spk_id"),
    "set": ("split", "set", "subset", "partition"),
    "utt": ("utt_id", "utt", "utterance", "segment_id"),
    "start": ("offset", "start", "start_time", "begin"),
    "end": ("end", "end_time"),
    "duration": ("duration", "length"),
}  # fmt: skip
FOLDERS = ("", "clips", "wavs", "wav", "audio")  # beside a table, where its sounds may lie
# What ffmpeg decodes and libsndfile does not.
BY_FFMPEG = {
    ".m4a", ".mp4", ".m4v", ".aac", ".wma", ".webm", ".weba", ".mkv", ".mka", ".mov", ".avi",
    ".3gp", ".amr", ".mpg", ".mpeg", ".ts", ".m4b", ".ac3",
}  # fmt: skip
TRANSCRIPTS = (".txt", ".normalized.txt", ".lab")
SHOWN = 8


class Item(NamedTuple):
    """One utterance as a corpus has it.

    Attributes:
        where: File and line, or the sound file, for messages.
        audio: Path of the sound file.
        text: Transcript; None: there is none.
        speaker: Empty: unknown.
        set: Name of its set; empty: unknown.
        utt: Name; empty: none.
        start: Beginning in the file, in seconds.
        end: End in the file, in seconds; -1: that of the file.
    """

    where: str
    audio: str
    text: Optional[str]
    speaker: str = ""
    set: str = ""
    utt: str = ""
    start: float = 0.0
    end: float = -1.0

    @property
    def is_part(self) -> bool:
        """Whether the utterance is a part of its file."""
        return self.start > 0 or self.end >= 0


def read_items(path: Path, kind: str) -> List[Item]:
    """Read a table.

    Args:
        path: The file.
        kind: `csv`, `tsv` or `jsonl`.

    Raises:
        UserError: Not such a table; names the line.
    """
    rows = list(_json_rows(path) if kind == "jsonl" else _csv_rows(path, kind))
    if not rows:
        raise UserError(f"{path}: no row in it")
    # What an object of json does not need to say, others may.
    columns = dict.fromkeys(name for _, row in rows for name in row)
    names = {key: _column(key, columns) for key in COLUMNS}
    for key, what in (("audio", "audio files"), ("text", "transcripts")):
        if names[key] is None:
            there = ", ".join(map(shown, list(columns)[:SHOWN]))
            raise UserError(
                f"{rows[0][0]}: no column of {what}; there are {there}, one of "
                f"{', '.join(COLUMNS[key])} is needed"
            )
    known: Dict[str, Path] = {}
    return [_item(where, row, names, path.parent, known) for where, row in rows]


def _column(key: str, columns: Iterable[str]) -> Optional[str]:
    plain = {name.strip().lower(): name for name in reversed(list(columns))}
    return next((plain[name] for name in COLUMNS[key] if name in plain), None)


def _item(
    where: str, row: Mapping[str, object], names: Mapping[str, Optional[str]], folder: Path,
    known: Dict[str, Path],
) -> Item:  # fmt: skip
    def field(key: str) -> str:
        name = names[key]
        value = None if name is None else row.get(name)
        if key == "audio" and isinstance(value, dict):  # as `datasets` writes it
            value = value.get("path")
        if isinstance(value, (list, dict)):
            raise UserError(f"{where}: {name} is {shown(value)}; text or a number is needed")
        return "" if value is None else str(value).strip()

    audio, start, end = field("audio"), field("start"), field("end")
    if not end and names["start"] is not None and field("duration"):  # the first may lack its 0
        end = str(_seconds(start, where, "start") + _seconds(field("duration"), where, "duration"))
    times = _seconds(start, where, "start"), _seconds(end, where, "end") if end else -1.0
    if 0 <= times[1] <= times[0]:
        raise UserError(f"{where}: the end, {end} s, is not behind the start, {start or 0} s")
    text = " ".join(field("text").split())
    path = _found(audio, folder, known) if audio else ""
    return Item(where, path, text, field("speaker"), field("set"), field("utt"), *times)


def _seconds(value: str, where: str, name: str) -> float:
    try:
        seconds = float(value or 0)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e6:
        raise UserError(f"{where}: {name} is {shown(value)}; seconds are needed")
    return seconds


def _found(audio: str, folder: Path, known: Dict[str, Path]) -> str:
    """Return where a sound file is: beside its table, in a folder there, or as named from here."""
    audio = os.path.expanduser(audio)
    places = [known["last"]] if "last" in known else []
    for place in [*places, *(folder / name for name in FOLDERS), Path.cwd()]:
        if os.path.exists(place / audio):  # False, too, of a name too long for a file
            known["last"] = place
            return os.path.abspath(place / audio)
    return os.path.abspath(folder / audio)


def _text_of(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = path.read_bytes()[: e.start].count(b"\n") + 1
        raise UserError(f"{path}:{line}: not UTF-8; save it as UTF-8") from None
    except (FileNotFoundError, IsADirectoryError):
        raise UserError(f"{path}: no such file") from None


def _csv_rows(path: Path, kind: str) -> Iterator[Tuple[str, Dict[str, object]]]:
    text = _text_of(path)
    head = text.partition("\n")[0]
    if kind == "tsv":  # Common Voice has quotes in its sentences, none around them
        reader = csv.reader(io.StringIO(text, ""), delimiter="\t", quoting=csv.QUOTE_NONE)
    else:
        delimiter = max(",;|\t", key=head.count)
        reader = csv.reader(io.StringIO(text, ""), delimiter=delimiter, strict=True)
    names: List[str] = []
    try:
        for fields in reader:
            where = f"{path}:{reader.line_num}"
            if not any(field.strip() for field in fields):
                continue
            if not names:
                names = fields
                named = [name for name in names if name.strip()]
                if len(set(named)) < len(named):
                    raise UserError(f"{where}: a column's name stands there twice: {head.strip()}")
                continue
            if len(fields) != len(names):
                raise UserError(
                    f"{where}: {len(fields)} fields, where the first line names {len(names)}; "
                    "text that holds the separator needs quotes"
                )
            yield where, dict(zip(names, fields))
    except csv.Error as e:
        raise UserError(f"{path}:{reader.line_num}: {e}") from None


def _json_rows(path: Path) -> Iterator[Tuple[str, Dict[str, object]]]:
    text = _text_of(path)
    try:  # one list of all
        rows = json.loads(text)
        rows = rows if isinstance(rows, list) else [rows]
        lines: Sequence[Tuple[int, object]] = list(enumerate(rows, 1))
    except RecursionError:
        raise UserError(f"{path}: nested too deep to be rows of named fields") from None
    except ValueError:
        lines = []
        for n, line in enumerate(text.split("\n"), 1):
            if line.strip():
                try:
                    lines.append((n, json.loads(line)))
                except ValueError as e:  # a number of too many digits is no JSONDecodeError
                    where = f"{e.msg} at {e.colno}" if isinstance(e, json.JSONDecodeError) else e
                    raise UserError(f"{path}:{n}: not JSON ({where})") from None
                except RecursionError:
                    raise UserError(f"{path}:{n}: nested too deep") from None
    for n, row in lines:
        if not isinstance(row, dict):
            raise UserError(f"{path}:{n}: {shown(row)}; an object with named fields is needed")
        yield f"{path}:{n}", row


def read_folder(folder: Path, without: Collection[Path] = ()) -> List[Item]:
    """Find the sound files of a folder, each with the transcript beside it.

    The speaker is the name of the folder a file is in, if that is not `folder` itself.

    Args:
        folder: The folder.
        without: Folders in it that are passed over.

    Raises:
        UserError: No sound file in it.
    """
    items: Dict[str, Item] = {}
    others: List[str] = []
    seen = set()
    for top, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and Path(top, name) not in without
        )
        if os.path.realpath(top) in seen:  # a link to a folder above
            folders.clear()
            continue
        seen.add(os.path.realpath(top))
        for name in sorted(files, key=_preference):
            stem, extension = os.path.splitext(name)
            if name.startswith("."):
                continue
            if extension.lower() not in EXTENSIONS | BY_FFMPEG:
                others.append(name)
                continue
            path = os.path.join(top, name)
            key = os.path.relpath(os.path.join(top, stem), folder)
            if key in items:  # the same in another format
                continue
            speaker = "" if Path(top) == folder else os.path.basename(top)
            text = _beside(Path(top, stem))
            items[key] = Item(path, os.path.abspath(path), text, speaker, utt=key)
    if not items:
        raise UserError(f"{folder}: {_no_sound(others)}")
    return list(items.values())


def _preference(name: str) -> Tuple[bool, bool, str]:
    extension = os.path.splitext(name)[1].lower()
    return extension != ".wav", extension != ".flac", name


def _beside(stem: Path) -> Optional[str]:
    for extension in TRANSCRIPTS:
        path = stem.with_name(stem.name + extension)
        if path.is_file():
            return " ".join(_text_of(path).split())
    return None


def _no_sound(others: Sequence[str]) -> str:
    if not others:
        return "no file in it, nor in its folders"
    kinds = sorted({os.path.splitext(name)[1].lower() or name for name in others})
    more = ", ..." if len(kinds) > SHOWN else ""
    return (
        f"no sound file among its {len(others)} files ({', '.join(kinds[:SHOWN])}{more}); audio "
        "with a .txt of the same name beside it is needed, or a table (--data csv, tsv or jsonl)"
    )
