"""What stands in `wav.scp` for audio: a sound file, a command (`sox a.wav -t wav - |`), or a place
in a Kaldi archive (`data_wav.ark:123`, as `--audio_format flac.ark` of ESPnet leaves them).

A command runs without a shell where it is words and pipes alone; else by `sh`, as in Kaldi. It
comes from a data directory that the user has named; nothing else may bring one.
"""

import functools
import hashlib
import io
import logging
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import BinaryIO, Dict, Iterable, List, Mapping, NamedTuple, Optional, Tuple

from espnet_kd.errors import UserError
from espnet_kd.fileio import PathLike, file_digest, read_table

_ARCHIVE = re.compile(r"(?P<path>.+):(?P<offset>[0-9]+)(?P<part>\[.*\])?")
_OPERATORS = set("|&;<>()")
# Only a shell knows what these stand for.
_EXPANDED = re.compile(r"[$`*?\[\]{}\\#!]|(?<!\S)~(?![/\s])")
PATIENCE = 600  # seconds that a command may take for one recording
LONGEST = 2**31  # bytes that it may give
NAMED = 3


class BadSource(Exception):
    """Audio that cannot be had; the message says why, without the entry of `wav.scp`."""


class Place(NamedTuple):
    """Place in a Kaldi archive."""

    path: str
    offset: int
    part: str


def is_command(value: PathLike) -> bool:
    """Tell whether an entry of `wav.scp` is a command whose output is the audio."""
    return str(value).endswith("|")


def place_of(value: PathLike) -> Optional[Place]:
    """Return the place in an archive that an entry names; None: it is a file, or a command."""
    value = str(value)
    match = None if is_command(value) else _ARCHIVE.fullmatch(value)
    if match is None or os.path.exists(value):  # a file may be called like that
        return None
    return Place(match["path"], int(match["offset"]), match["part"] or "")


def is_file(value: PathLike) -> bool:
    """Tell whether an entry is a plain file."""
    return not is_command(value) and place_of(value) is None


def commands_of(value: str) -> Optional[List[List[str]]]:
    """Split an entry into the words of its commands, one piped into the next.

    Returns:
        None: only a shell understands it.
    """
    text = value.rstrip("| \t")
    words = None if _EXPANDED.search(text) else _split(text)
    if words is None:
        return None
    commands: List[List[str]] = [[]]
    quoted = any(quote in text for quote in "'\"")
    for word in words:
        if word == "|" and not quoted:
            commands.append([])
        elif word and _OPERATORS.issuperset(word):
            return None
        else:  # operators within a word stand in quotes
            commands[-1].append(os.path.expanduser(word))
    assigns = any(words and "=" in words[0] for words in commands)
    return None if assigns or not all(commands) else commands


def _split(text: str) -> Optional[List[str]]:
    """Split at blanks and operators, but not in quotes; None: a quote is not closed."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars="".join(_OPERATORS))
    lexer.whitespace_split, lexer.commenters = True, ""
    try:
        return list(lexer)
    except ValueError:  # the shell says so
        return None


def _words(command: str) -> List[str]:
    """Split a command, to see which files it reads: roughly, and with its quotes if it has any."""
    words = re.split(r"[\s|&;<>()'\"]+", command)
    if any(c in command for c in "'\"\\"):
        words += _split(command) or []
    return [os.path.expanduser(word) for word in words if word]


def depends_on(value: str) -> List[str]:
    """Name the files that an entry's audio is made of, as far as they can be seen."""
    place = place_of(value)
    if place is not None:
        return [place.path]
    if not is_command(value):
        return [value]
    # The programs are not among them: an update of sox is no other corpus.
    return [word for word in _words(value)[1:] if os.path.isfile(word)]


def digest(value: str) -> str:
    """Return a checksum of what an entry stands for; of a command: its words and their files.

    Raises:
        OSError: A file cannot be read.
    """
    place = place_of(value)
    if place is not None:
        return hashlib.sha256(_archived(place)).hexdigest()
    if not is_command(value):
        return file_digest(value)
    inputs = set(depends_on(value))
    parts = [file_digest(word) if word in inputs else word for word in _words(value)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def opened(value: PathLike) -> BinaryIO:
    """Open the sound file that an entry stands for; a command is run, an archive read.

    Raises:
        OSError: A file cannot be read.
        BadSource: The command fails, or the archive holds no audio there.
    """
    if is_file(value):
        return open(value, "rb")
    return io.BytesIO(_content(str(value)))


@functools.lru_cache(maxsize=1)  # the utterances of a recording come one after the other
def _content(value: str) -> bytes:
    place = place_of(value)
    try:
        return _output(value) if place is None else _archived(place)
    except OSError as e:
        raise BadSource(f"unreadable ({e.strerror}: {e.filename})") from None


def _output(value: str) -> bytes:
    """Run a command and return what it writes."""
    commands = commands_of(value)
    if commands is None:
        commands = [["sh", "-c", value.rstrip("| \t")]]
    running: List[subprocess.Popen] = []
    try:
        for words in commands:
            source = running[-1].stdout if running else subprocess.DEVNULL
            # Of a pipeline the last one's words are kept; the others' would fill their pipes.
            complaints = subprocess.PIPE if words is commands[-1] else subprocess.DEVNULL
            process = subprocess.Popen(
                words, stdin=source, stdout=subprocess.PIPE, stderr=complaints
            )
            if running:
                assert running[-1].stdout is not None
                running[-1].stdout.close()  # it is the next one's now
            running.append(process)
        output, complaint = running[-1].communicate(timeout=PATIENCE)
        for process, words in zip(running, commands):
            code = process.wait(timeout=PATIENCE)
            if code and not (code == -13 and process is not running[-1]):
                reason = complaint.decode(errors="replace").strip().rpartition("\n")[2][:200]
                raise BadSource(f"'{words[0]}' ends with code {code}{reason and ': ' + reason}")
    except FileNotFoundError:
        raise BadSource(f"'{words[0]}' is not installed") from None
    except subprocess.TimeoutExpired:
        raise BadSource(f"its command takes more than {PATIENCE} s") from None
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
                process.wait()
    if not output:
        raise BadSource("its command gives nothing")
    if len(output) > LONGEST:
        raise BadSource(f"its command gives more than {LONGEST} bytes")
    return output


def _archived(place: Place) -> bytes:
    """Return the sound file at a place in an archive."""
    where = f"{place.path} at {place.offset}"
    if place.part:
        raise BadSource(f"a range {place.part} of an archive; use segments")
    with open(place.path, "rb") as f:
        f.seek(place.offset)
        head = f.read(12)
        if head[:5] == b"AUDIO":  # as kaldiio writes it: the width of a length, the length, a file
            length = int.from_bytes(head[6 : 6 + head[5]], "little") if head[5:6] else 0
            f.seek(place.offset + 6 + head[5])
        elif head[:4] == b"RIFF" and head[8:] == b"WAVE":
            length = int.from_bytes(head[4:8], "little") + 8
            f.seek(place.offset)
        else:
            kind = "a matrix, that is, features" if head[:2] == b"\0B" else "no WAV, FLAC or AUDIO"
            raise BadSource(f"{where} is {kind}")
        content = f.read(min(length, LONGEST))
    if not length or len(content) < length:
        raise BadSource(f"{where} is cut off ({len(content)} of {length} bytes)")
    return content


def read_wav_scp(folder: PathLike) -> Dict[str, str]:
    """Read `wav.scp` of a data directory; `~/` of a path becomes the home folder.

    Raises:
        UserError: No such table, or one that is damaged.
    """
    table = read_table(Path(folder) / "wav.scp")
    return {
        key: os.path.expanduser(value) if value[:2] == "~/" else value
        for key, value in table.items()
    }


def announce(values: Iterable[str], where: str) -> None:
    """Name the commands that will be run for audio, before the first of them is.

    Args:
        values: Entries of `wav.scp`.
        where: Name of the table, for messages.

    Raises:
        UserError: A program is not installed, or a command has no words.
    """
    programs: Dict[str, List[str]] = {}
    for value in dict.fromkeys(values):  # a recording may stand there for each of its utterances
        if not is_command(value):
            continue
        commands = commands_of(value)
        if not value.strip("| \t"):
            raise UserError(f"{where}: an entry is '{value}': there is no command in it")
        for words in commands or [["sh", "-c"]]:
            programs.setdefault(words[0], []).append(value)
    for name, entries in programs.items():
        if shutil.which(name) is None:
            raise UserError(
                f"{where}: {len(entries)} entries run '{name}', which is not installed (e.g. "
                f"'{entries[0]}'); install it, or name sound files instead"
            )
    if programs:
        named = ", ".join(f"{name} ({len(entries)} times)" for name, entries in programs.items())
        example = next(iter(programs.values()))[0]
        logging.info(f"{where}: runs commands for audio: {named}, e.g. '{example}'")


def resolved(wav: Mapping[str, str], folder: Path) -> Dict[str, str]:
    """Return `wav.scp` of a data directory somewhere else, usable from here.

    A relative path is one of the current folder, or else of the data directory or a folder above
    it: `dump/raw/train/wav.scp` of ESPnet names files from the recipe's folder.

    Args:
        wav: The table.
        folder: The data directory.
    """
    places = [Path.cwd(), *Path(os.path.abspath(folder)).parents, Path(os.path.abspath(folder))]
    known: Dict[str, Path] = {}

    def absolute(path: str) -> str:
        path = os.path.expanduser(path)
        if os.path.isabs(path):
            return path
        top = path.partition("/")[0]
        for place in ([known[top]] if top in known else []) + places:
            if (place / path).exists():
                known[top] = place
                return str(place / path)
        return path

    def entry(value: str) -> str:
        if is_command(value):
            return _with_paths(value, absolute)
        place = place_of(value)
        if place is not None:
            return f"{absolute(place.path)}:{place.offset}{place.part}"
        return absolute(value)

    return {key: entry(value) for key, value in wav.items()}


def _with_paths(command: str, absolute) -> str:
    """Write the paths of a command that can be split from here."""
    commands = commands_of(command)
    if commands is None:
        return command
    named: List[Tuple[str, ...]] = []
    for program, *words in commands:
        named.append((program, *(absolute(word) if "/" in word or "." in word else word
                                 for word in words)))  # fmt: skip
    return " | ".join(shlex.join(words) for words in named) + " |"
