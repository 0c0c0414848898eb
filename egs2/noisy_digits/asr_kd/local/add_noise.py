#!/usr/bin/env python3
r"""Add babble to a Kaldi-style data directory at known signal-to-noise ratios.

    python local/add_noise.py --data data/clean_test --babble data/clean_train \
        --snr 20 10 5 0 --out data/test --audio downloads/noisy/test

makes every utterance once at each ratio; `--snr_range 0 20` makes it once, at a ratio drawn
from that range. `utt2condition` of the new directory holds the ratio as a label, by which the
report breaks error rates down, `utt2source` the clean utterance: versions of one are not
independent. The same seed gives the same samples.
"""

import argparse
import zlib
from pathlib import Path
from typing import List, Optional, Sequence, Tuple

import numpy as np

from espnet_kd.cli import new_parser, positive_int, whole
from espnet_kd.data.audio import decode_or_refuse, encode
from espnet_kd.data.kaldi_dir import Tables, read_data_dir, write_data_dir
from espnet_kd.errors import UserError, run_main
from espnet_kd.progress import track
from espnet_kd.scoring.conditions import CONDITION, LABELS, SOURCE

LOUDEST = 0.99  # of full scale; a louder mixture is scaled down as a whole


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("--data", type=Path, required=True, help="clean data directory")
    add("--babble", type=Path, required=True, help="data directory whose speakers babble")
    add("--out", type=Path, required=True, help="noisy data directory to make")
    add("--audio", type=Path, required=True, help="folder of the noisy sound files")
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--snr", type=int, nargs="+", help="every utterance at each ratio, in dB")
    how.add_argument("--snr_range", type=int, nargs=2, help="every utterance at a ratio between")
    add("--talkers", type=positive_int, default=6, help="people who babble at a time")
    of_some = "take that many utterances, evenly spaced (default: all)"
    add("--utts", type=positive_int, help=of_some)
    add("--but", type=Path, help="leave out the utterances of this data directory")
    add("--seed", type=whole, default=1, help="seed of everything that is drawn")
    return parser


@run_main
def main(cmd: Optional[Sequence[str]] = None) -> None:
    """Run the command line."""
    args = get_parser().parse_args(cmd)
    clean, babble_data = read_data_dir(args.data), read_data_dir(args.babble)
    talkers = babble_data["wav.scp"]
    if "segments" in {*clean, *babble_data}:
        raise UserError(f"{args.data} or {args.babble} has segments; whole files are needed")
    names = sorted(set(clean["wav.scp"]) - _taken(args.but))
    if not names:
        raise UserError(
            f"{args.data}: no utterance is left beside those of {args.but}; hold out less"
        )
    if args.utts:
        if args.utts > len(names):
            raise UserError(f"--utts {args.utts}: {args.data} has {len(names)} utterances")
        names = [names[i * len(names) // args.utts] for i in range(args.utts)]
    rate = decode_or_refuse(clean["wav.scp"][names[0]])[1].rate
    speech = {path: decode_or_refuse(path)[0] for path in sorted(talkers.values())}
    noisy: Tables = {name: {} for name in ("wav.scp", "text", "utt2spk", *LABELS)}
    for name in track(names, f"babble {args.out.name}", total=len(names)):
        for new, snr, label in _versions(name, args):
            audio, header = decode_or_refuse(clean["wav.scp"][name])
            if header.rate != rate:
                raise UserError(f"{name}: sampling rate {header.rate} Hz; the others have {rate}")
            random = np.random.default_rng([args.seed, zlib.crc32(new.encode())])
            noise = babble(list(speech.values()), len(audio), args.talkers, random)
            path = args.audio / f"{new}.flac"
            path.parent.mkdir(parents=True, exist_ok=True)
            encode(path, mix(audio, noise, snr), rate, "flac")
            noisy["wav.scp"][new] = str(path)
            noisy[CONDITION][new], noisy[SOURCE][new] = label, name
            for table in ("text", "utt2spk"):
                noisy[table][new] = clean[table][name]
    write_data_dir(args.out, noisy)


def _taken(data: Optional[Path]) -> "set[str]":
    """Utterances (by their clean name) of a noisy directory."""
    return {name.rpartition("-")[0] for name in read_data_dir(data)["wav.scp"]} if data else set()


def _versions(name: str, args: argparse.Namespace) -> List[Tuple[str, float, str]]:
    """New name, ratio in dB and label of each version of an utterance."""
    if args.snr:
        return [(f"{name}-snr{snr}", snr, f"snr{snr}") for snr in args.snr]
    low, high = args.snr_range
    random = np.random.default_rng([args.seed, zlib.crc32(name.encode()), 1])
    return [(f"{name}-noisy", random.uniform(low, high), f"snr{low}to{high}")]


def babble(
    speech: Sequence[np.ndarray], length: int, talkers: int, random: np.random.Generator
) -> np.ndarray:
    """Let talkers speak at once, each from somewhere in an utterance, over and over. (S,)"""
    total = np.zeros(length, dtype=np.float32)
    for _ in range(talkers):
        audio = speech[random.integers(len(speech))]
        total += np.resize(np.roll(audio, random.integers(len(audio))), length) / power(audio)
    return total


def mix(audio: np.ndarray, noise: np.ndarray, snr: float) -> np.ndarray:
    """Add noise at a signal-to-noise ratio in dB over the whole utterance. (S,)"""
    mixed = audio + noise * (power(audio) / power(noise) * 10 ** (-snr / 20))
    return mixed * min(1.0, LOUDEST / float(np.abs(mixed).max()))


def power(audio: np.ndarray) -> float:
    """Root of the mean square."""
    return float(np.sqrt(np.mean(np.square(audio), dtype=np.float64)) + 1e-9)


if __name__ == "__main__":
    main()
