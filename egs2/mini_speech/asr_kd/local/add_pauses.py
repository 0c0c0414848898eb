#!/usr/bin/env python3
r"""Put pauses around the utterances of a Kaldi-style data directory, or join them in pairs.

    python local/add_pauses.py --data data/test_new --out data/test_pauses \
        --audio downloads/pauses --conditions plain silence_around_0.3 faint_before_2 two_0.5

makes every utterance once under each condition: as it is; with 0.3 s of digital silence before
and behind; with 2 s of faint noise before; with the speaker's next utterance, 0.5 s of digital
silence between. `utt2condition` of the new directory holds the condition as a label, by which
the report breaks error rates down, `utt2source` the utterance that each is made of. The same
seed gives the same samples.
"""

import re
import zlib
from pathlib import Path
from typing import Dict, List, Optional, Sequence

import numpy as np
from pauses import FAINT_DB

from espnet_kd.cli import new_parser, whole
from espnet_kd.data.audio import decode_or_refuse, encode
from espnet_kd.data.kaldi_dir import Tables, invert, read_data_dir, write_data_dir
from espnet_kd.errors import UserError, run_main
from espnet_kd.progress import track
from espnet_kd.scoring.conditions import LABELS, SOURCE

DEFAULT = ("silence_around_0.3", "silence_around_2", "faint_around_1", "two_0.5")
PATTERN = (
    r"plain|(?P<fill>silence|faint)_(?P<where>before|behind|around)_(?P<pause>S)|two_(?P<gap>S)"
)
CONDITION = re.compile(PATTERN.replace("S", r"\d+(?:\.\d+)?"))


@run_main
def main(cmd: Optional[Sequence[str]] = None) -> None:
    """Run the command line."""
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("--data", type=Path, required=True, help="data directory of single sentences")
    add("--out", type=Path, required=True, help="data directory to make")
    add("--audio", type=Path, required=True, help="folder of the new sound files")
    add("--conditions", nargs="+", default=DEFAULT, help="treatments of each utterance")
    add("--utts", type=int, default=10**9, help="utterances to take at most, evenly spaced")
    add("--seed", type=whole, default=1, help="seed of the faint noise")
    args = parser.parse_args(cmd)
    for condition in args.conditions:
        if not CONDITION.fullmatch(condition):
            raise UserError(
                f"--conditions: '{condition}' is none; plain, two_<seconds>, or silence or faint, "
                "_before_, _behind_ or _around_ and seconds, e.g. faint_before_0.3"
            )
    data = read_data_dir(args.data)
    if args.utts < 1:
        raise UserError(f"--utts {args.utts}: at least 1")
    names = sorted(data["wav.scp"])
    count = min(args.utts, len(names))
    names = [names[i * len(names) // count] for i in range(count)]
    new: Tables = {name: {} for name in ("wav.scp", "text", "utt2spk", *LABELS)}
    next_of = _next_of_speaker(data)
    args.audio.mkdir(parents=True, exist_ok=True)
    for name in track(names, f"pauses {args.out.name}", total=len(names)):
        for condition in args.conditions:
            utt = f"{name}-{condition}"
            said = [name, next_of[name]] if condition.startswith("two") else [name]
            sounds = [decode_or_refuse(data["wav.scp"][n]) for n in said]
            random = np.random.default_rng([args.seed, zlib.crc32(utt.encode())])
            path = args.audio / f"{utt}.flac"
            rates = {header.rate for _, header in sounds}
            if len(rates) > 1:
                raise UserError(f"{utt}: sampling rates {rates}; one for all is needed")
            rate = rates.pop()
            encode(path, arrange([s for s, _ in sounds], rate, condition, random), rate, "flac")
            new["wav.scp"][utt] = str(path)
            new["text"][utt] = " ".join(data["text"][n] for n in said)
            new["utt2spk"][utt] = data["utt2spk"][name]
            new["utt2condition"][utt], new[SOURCE][utt] = condition, name
    write_data_dir(args.out, new)


def _next_of_speaker(data: Tables) -> Dict[str, str]:
    """The utterance that follows each one, of the same speaker; after the last, the first."""
    following = {}
    for utts in invert(data["utt2spk"]).values():
        names = utts.split()
        following.update(zip(names, names[1:] + names[:1]))
    return following


def arrange(
    sounds: List[np.ndarray], rate: int, condition: str, random: np.random.Generator
) -> np.ndarray:
    """Join recordings, or put pauses around one, as a condition says. (S,)"""
    match = CONDITION.fullmatch(condition)
    assert match is not None
    if match["gap"]:
        first, second = sounds
        return np.concatenate([first, np.zeros(round(float(match["gap"]) * rate)), second])
    if not match["fill"]:
        return sounds[0]
    level = 10 ** (random.uniform(*FAINT_DB) / 20) if match["fill"] == "faint" else 0.0
    length = round(float(match["pause"]) * rate)
    before = length if match["where"] != "behind" else 0
    behind = length if match["where"] != "before" else 0
    pauses = [level * random.standard_normal(n) for n in (before, behind)]
    return np.concatenate([pauses[0], sounds[0], pauses[1]])


if __name__ == "__main__":
    main()
