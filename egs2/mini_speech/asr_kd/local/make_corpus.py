#!/usr/bin/env python3
"""Make the synthetic corpus MiniSpeech with espeak-ng, in LibriSpeech's layout.

Connected digits and a small command grammar in many voices, with mild noise. What is trained
and validated on has pauses and sentences in pairs, too (`pauses.py`). The same options give the
same samples, bit for bit, whatever --nj is.
"""

import argparse
import dataclasses
import itertools
import os
import signal
import sys
from pathlib import Path
from typing import Dict, List, Optional, Sequence

import grammar
import numpy as np
import pauses
import place
import processes
import sound
import voices
from espeak import Espeak, data_folder

from espnet_kd.cli import new_parser
from espnet_kd.errors import UserError, run_main
from espnet_kd.progress import track

VERSION = 4  # goes up with every change that changes the samples
CHAPTERS = {"train": 1, "dev": 2, "test_seen": 3, "test_new": 4}  # set -> chapter number
MIXED = ("train", "dev")  # sets with utterances of all conditions
DEV_NEW_VOICES = 8
HEARD_AGAIN = 40  # training voices that speak in test_seen too
BABBLERS = ["en-us+m1", "en+f2", "en-us+f4", "en+m2", "en-us+Mike", "en-029+f1"]  # of training


@dataclasses.dataclass(frozen=True)
class Chapter:
    """What one speaker says in one set."""

    set_name: str
    speaker: voices.Speaker
    utts: int


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("--out", default="downloads/MiniSpeech", help="folder to make")
    add("--seed", type=int, default=1, help="seed of everything that is drawn")
    add("--train_utts", type=int, default=2000, help="utterances of train")
    add("--dev_utts", type=int, default=160, help="utterances of dev")
    add("--test_utts", type=int, default=200, help="utterances of each test set")
    add("--voices", type=int, default=120, help="voices of train")
    add("--new_voices", type=int, default=26, help="voices of test_new; train has none of them")
    add("--snr_low", type=float, default=8.0, help="least signal-to-noise ratio in dB")
    add("--snr_high", type=float, default=28.0, help="greatest signal-to-noise ratio in dB")
    add("--nj", type=int, default=min(os.cpu_count() or 1, 16), help="processes at a time")
    add("--force", action="store_true", help="replace a corpus of other options")
    return parser


def check(args: argparse.Namespace) -> None:
    """Refuse options that make no corpus."""
    for name in ("train_utts", "dev_utts", "test_utts", "voices", "new_voices", "nj"):
        if getattr(args, name) < 1:
            raise UserError(f"--{name} {getattr(args, name)}: at least 1")
    if args.seed < 0:
        raise UserError(f"--seed {args.seed}: at least 0")
    if not -20 <= args.snr_low <= args.snr_high <= 100:
        raise UserError(
            f"--snr_low {args.snr_low} --snr_high {args.snr_high}: "
            "between -20 and 100, the low one first"
        )


def plan(args: argparse.Namespace) -> List[Chapter]:
    """Say who speaks how many utterances in which set."""
    train = voices.speakers("train", args.voices, args.seed)
    new = voices.speakers("test_new", args.new_voices, args.seed)
    dev_new = voices.speakers("dev", DEV_NEW_VOICES, args.seed)
    heard = [train[i] for i in range(0, len(train), max(1, len(train) // HEARD_AGAIN))]
    sets = {
        "train": (train, args.train_utts),
        # Both kinds, as the tests together: seen voices and voices of its own.
        "dev": ([s for pair in zip(dev_new, heard[::-1]) for s in pair], args.dev_utts),
        "test_seen": (heard[:HEARD_AGAIN], args.test_utts),
        "test_new": (new, args.test_utts),
    }
    chapters = []
    for name, (who, utts) in sets.items():
        for i, speaker in enumerate(who):
            share = utts // len(who) + (i < utts % len(who))
            if share:
                chapters.append(Chapter(name, speaker, share))
    return chapters


def make_babble(seed: int, data: str) -> np.ndarray:
    """Let some training voices speak at once for 20 seconds."""
    espeak = Espeak(data)
    rng = np.random.default_rng([seed, 0])
    total = np.zeros(20 * sound.SAMPLING_RATE)
    for voice in BABBLERS:
        espeak.set_voice(voice)
        said = [
            espeak.say(text.lower(), int(rng.integers(1, 1 << 30)), 175, 50, 50)
            for text in itertools.islice(grammar.sentences(rng, train=True), 20)
        ]
        total += sound.loop(sound.resample(np.concatenate(said), espeak.rate_hz), len(total))
    return total


def speak(chapter: Chapter, args: argparse.Namespace, data: str, babble, root: Path) -> Dict:
    """Write a chapter below `root` and return how much it is."""
    speaker, number = chapter.speaker, CHAPTERS[chapter.set_name]
    rng = np.random.default_rng([args.seed, speaker.id, number])
    espeak = Espeak(data)
    espeak.set_voice(speaker.voice)
    folder = root / chapter.set_name / str(speaker.id) / str(number)
    folder.mkdir(parents=True)
    prefix = f"{speaker.id}-{number}"
    transcript, length = [], 0
    texts = grammar.sentences(rng, train=chapter.set_name == "train")

    def say(text: str) -> np.ndarray:
        speech = espeak.say(
            text.lower(),
            seed=int(rng.integers(1, 1 << 30)),
            rate=round(speaker.rate * rng.uniform(0.93, 1.07)),
            pitch=round(speaker.pitch + rng.uniform(-5, 5)),
            pitch_range=speaker.pitch_range,
        )
        return sound.resample(sound.trim(speech), espeak.rate_hz, speaker.tract)

    for n in range(chapter.utts):
        condition = pauses.condition(rng) if chapter.set_name in MIXED else "plain"
        said = list(itertools.islice(texts, pauses.sentence_count(condition)))
        speech = [say(text) for text in said]
        around = pauses.draw(condition, rng)
        samples = sound.record(speech, rng, babble, (args.snr_low, args.snr_high), around)
        sound.write_flac(folder / f"{prefix}-{n:04d}.flac", samples)
        transcript.append(f"{prefix}-{n:04d} {' '.join(said)}\n")
        length += len(samples)
    (folder / f"{prefix}.trans.txt").write_text("".join(transcript), encoding="utf-8")
    return {"set": chapter.set_name, "utts": chapter.utts, "samples": length}


def write_speakers(path: Path, chapters: List[Chapter]) -> None:
    """Write SPEAKERS.TXT."""
    sets: Dict[voices.Speaker, List[str]] = {}
    for chapter in chapters:
        sets.setdefault(chapter.speaker, []).append(chapter.set_name)
    lines = ["; ID | SETS | VOICE of espeak-ng | WORDS PER MINUTE | PITCH | RANGE | TRACT\n"]
    for s in sorted(sets, key=lambda s: s.id):
        row = (s.id, ",".join(sets[s]), s.voice, s.rate, s.pitch, s.pitch_range, s.tract)
        lines.append(" | ".join(map(str, row)) + "\n")
    path.write_text("".join(lines), encoding="utf-8")


def write_readme(path: Path, table: List[str]) -> None:
    """Write README.TXT."""
    path.write_text(
        "MiniSpeech: SYNTHETIC speech. No person speaks here.\n\n"
        "Made by egs2/mini_speech/asr_kd/local/make_corpus.py of espnet_kd with the\n"
        "text-to-speech espeak-ng (https://github.com/espeak-ng/espeak-ng, licensed under\n"
        "GPL-3.0-or-later), which the wheel espeakng-loader carries; white, pink and babble\n"
        "noise is added. It serves to try a recipe out. It says nothing about how well a\n"
        "recogniser does on real speech.\n\n" + "".join(f"  {row}\n" for row in table) + "\n"
        "test_seen: voices that train has; test_new: variants that train does not have;\n"
        "dev: half and half. No sentence of dev or the tests is said in train.\n"
        "Nearly half of the utterances of train and dev have up to 2 s of noise or silence\n"
        "around them, or are two sentences.\n"
        "SPEAKERS.TXT lists the voices.\n",
        encoding="utf-8",
    )


@run_main
def main(cmd: Optional[Sequence[str]] = None) -> None:
    """Make the corpus beside --out and rename it when it is whole."""
    args = get_parser().parse_args(cmd)
    check(args)
    out = Path(os.path.realpath(args.out))
    options = {k: v for k, v in vars(args).items() if k not in ("out", "nj", "force")}
    options = {"corpus": "MiniSpeech", "version": VERSION, **options}
    if place.is_made(out, options, args.force):
        print(f"{args.out}: made before with the same options (synthetic); nothing to do")
        return
    chapters = plan(args)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that cleaning up happens
    with data_folder() as data, place.building(out, options) as root:
        (babble,) = processes.run_each(lambda seed: make_babble(seed, data), [args.seed], 1)
        totals = {name: {"voices": 0, "utts": 0, "samples": 0} for name in CHAPTERS}
        results = processes.run_each(
            lambda chapter: speak(chapter, args, data, babble, root), chapters, args.nj
        )
        for r in track(results, "speak", total=len(chapters), unit="chapters"):
            total = totals[r["set"]]
            total["voices"] += 1
            total["utts"] += r["utts"]
            total["samples"] += r["samples"]
        table = [
            f"{name:10}{t['utts']:6} utterances {t['voices']:4} voices "
            f"{t['samples'] / sound.SAMPLING_RATE / 3600:7.3f} h"
            for name, t in totals.items()
        ]
        write_speakers(root / "SPEAKERS.TXT", chapters)
        write_readme(root / "README.TXT", table)
    print("\n".join([f"{args.out} (synthetic speech):", *table]))


if __name__ == "__main__":
    main()
