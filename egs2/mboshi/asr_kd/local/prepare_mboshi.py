#!/usr/bin/env python3
"""Letters of the Mboshi corpus as Kaldi-style data directories: train, dev, test.

    python local/prepare_mboshi.py --corpus /path/to/mboshi-french-parallel-corpus

A transcript's words are its letters, without tone marks and without spaces between words: the
report's words are letters, and its WER is the error rate of letters. A "speaker" is a person in
one recording session, as LibriSpeech's are readers of one chapter. `utt2condition` says whether
an utterance is of the `dico` (phrases of a dictionary, read) or a `part` (of a text).
"""

import argparse
import collections
import re
import unicodedata
import zlib
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from espnet_kd.cli import new_parser, positive_int, seconds, share, str2bool
from espnet_kd.data.audio import BadAudio, read_header
from espnet_kd.data.bad_items import BadItems
from espnet_kd.data.kaldi_dir import write_data_dir
from espnet_kd.errors import UserError, run_main

FOLDER = "full_corpus_newsplit"
RATE = 16000
NAME = re.compile(
    r"(?P<person>[a-z]+)_(?P<time>[\d-]+)_.*_(?P<kind>dico|part)(?P<number>.+)", re.I
)


class Utterance(NamedTuple):
    """A sound file and its transcript.

    Attributes:
        name: Name, which begins with the speaker.
        speaker: Person and recording session.
        kind: `dico` or `part`.
        path: The sound file.
        letters: Letters, separated by spaces.
        seconds: Length.
    """

    name: str
    speaker: str
    kind: str
    path: str
    letters: str
    seconds: float


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("--corpus", required=True, help=f"checkout of the repository, which holds {FOLDER}")
    add("--speakers", nargs="+", default=["abiayi", "kouarata"], help="people to take")
    add("--max_seconds", type=seconds, default=3.6, help="longest utterances of train and dev")
    add("--dev_utts", type=positive_int, default=120, help="utterances that are held out of train")
    add("--tones", type=str2bool, default=False, help="keep the tone marks")
    add("--max_bad_share", type=share, default=0.02, help="share that may be unusable")
    add("--out", type=Path, default=Path("data"), help="folder of the data directories")
    return parser


@run_main
def main(cmd: Optional[Sequence[str]] = None) -> None:
    """Run the command line."""
    args = get_parser().parse_args(cmd)
    root = Path(args.corpus) / FOLDER
    if not args.corpus or not root.is_dir():
        raise UserError(
            f"'{args.corpus}': no checkout of besacier/mboshi-french-parallel-corpus ({FOLDER} is "
            "not in it); name yours with MBOSHI=DIR"
        )
    options = (args.speakers, args.tones, args.max_bad_share)
    given, bad_given = read(root / "train", *options)
    test, bad_test = read(root / "dev", *options)
    both = sorted({utt.name for utt in given} & {utt.name for utt in test})
    if both:
        raise UserError(
            f"{root}: {len(both)} utterances of train are in dev, too, which is the test set "
            f"(e.g. {both[0]}); remove one of each"
        )
    given = [utt for utt in given if utt.seconds <= args.max_seconds]
    # Whose text occurs once, chosen by it: the same whatever else is taken.
    often = collections.Counter(utt.letters for utt in given)
    single = [utt for utt in given if often[utt.letters] == 1]
    if args.dev_utts >= len(single):
        raise UserError(
            f"--dev_utts {args.dev_utts}: {root}/train has {len(single)} utterances of up to "
            f"{args.max_seconds:g} s whose text occurs once; fewer must be held out"
        )
    single.sort(key=lambda utt: (zlib.crc32(utt.letters.encode()), utt.name))
    held_out = {utt.name for utt in single[: args.dev_utts]}
    write(args.out / "train", [utt for utt in given if utt.name not in held_out])
    write(args.out / "dev", [utt for utt in given if utt.name in held_out])
    write(args.out / "test", test)
    bad_given.write(args.out / "train")
    bad_test.write(args.out / "test")


def read(
    folder: Path, people: Sequence[str], tones: bool, max_bad_share: float
) -> Tuple[List[Utterance], BadItems]:
    """Read one part of the corpus.

    Args:
        folder: Folder with `<name>.wav` and `<name>.mb.cleaned`.
        people: People whose utterances are taken.
        tones: Whether letters keep their tone marks.
        max_bad_share: Share of utterances that may be unusable.

    Returns:
        Its utterances, and what could not be used.

    Raises:
        UserError: no such folder, nobody of that name, another sampling rate, a name that is
            there twice, or too many utterances without audio or transcript.
    """
    sounds = sorted(folder.glob("*.wav"))
    if not sounds:
        raise UserError(f"{folder}: no *.wav in it; bring the whole folder {FOLDER}")
    bad = BadItems(str(folder), max_bad_share)
    utterances: Dict[str, Utterance] = {}
    there: Dict[str, int] = collections.Counter()
    for path in sounds:
        match = NAME.fullmatch(path.stem)
        if match is None:
            bad.add("files with a name that is not <person>_<time>_..._Dico<n>", path.name)
            continue
        there[match["person"]] += 1
        if match["person"] in people:
            _add(path, match, tones, utterances, bad)
    for person in people:
        if person not in there:
            raise UserError(
                f"{folder}: nobody is called '{person}'; there are {', '.join(sorted(there))}"
            )
    bad.refuse_beyond_share(sum(there[person] for person in people))
    bad.log()
    return sorted(utterances.values()), bad


def _add(
    path: Path, match: re.Match, tones: bool, utterances: Dict[str, Utterance], bad: BadItems
) -> None:
    """Read one utterance."""
    transcript = path.with_suffix(".mb.cleaned")
    try:
        header = read_header(path)
        letters = letters_of(transcript.read_text(encoding="utf-8"), tones)
    except BadAudio as e:
        bad.add("unusable sound files", f"{path.name}: {e}")
        return
    except FileNotFoundError:
        bad.add("sound files without a transcript", transcript.name)
        return
    except UnicodeDecodeError:
        bad.add("transcripts that are not UTF-8", transcript.name)
        return
    if header.rate != RATE:
        raise UserError(f"{path}: {header.rate} Hz; the corpus is of {RATE} Hz")
    if not letters:
        bad.add("empty transcripts", transcript.name)
        return
    kind = match["kind"].lower()
    speaker = f"{match['person']}-{match['time'].replace('-', '')}-{kind}"
    name = f"{speaker}{match['number'].replace('_', '-')}"
    if name in utterances:
        raise UserError(f"{path}: a second '{name}', as {utterances[name].path}; remove one")
    seconds = header.frames / header.rate
    utterances[name] = Utterance(name, speaker, kind, str(path.resolve()), letters, seconds)


def letters_of(text: str, tones: bool) -> str:
    """Return the letters of a transcript, with spaces between them."""
    if not tones:
        marks = unicodedata.normalize("NFD", text)
        text = "".join(c for c in marks if not unicodedata.combining(c))
    return " ".join(c for c in unicodedata.normalize("NFC", text) if not c.isspace())


def write(folder: Path, utterances: Sequence[Utterance]) -> None:
    """Write a data directory, and say what is in it."""
    tables = {
        "wav.scp": {utt.name: utt.path for utt in utterances},
        "text": {utt.name: utt.letters for utt in utterances},
        "utt2spk": {utt.name: utt.speaker for utt in utterances},
        "utt2condition": {utt.name: utt.kind for utt in utterances},
    }
    write_data_dir(folder, tables)
    hours = sum(utt.seconds for utt in utterances) / 3600
    letters = sum(len(utt.letters.split()) for utt in utterances)
    sessions = len({utt.speaker for utt in utterances})
    print(
        f"{folder}: {len(utterances)} utterances, {hours:.2f} h, {letters:,} letters, "
        f"{sessions} sessions"
    )


if __name__ == "__main__":
    main()
