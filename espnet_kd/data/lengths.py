"""Drop utterances that are too short, too long or without words."""

import logging

from espnet_kd.data.audio import BadAudio, read_header
from espnet_kd.data.kaldi_dir import Tables, select
from espnet_kd.errors import UserError


def filter_lengths(tables: Tables, min_seconds: float, max_seconds: float, label: str) -> Tables:
    """Keep utterances longer than `min_seconds`, shorter than `max_seconds`, with text.

    Both bounds are exclusive, as in stage 4 of ESPnet's `asr.sh`.

    Raises:
        UserError: bounds that exclude everything, no `utt2num_samples`, nothing left.
    """
    if "utt2num_samples" not in tables:
        raise UserError(f"{label}: no utt2num_samples; run the stage that formats the audio first")
    if not 0 <= min_seconds < max_seconds:
        raise UserError(
            f"--min_wav_duration {min_seconds:g} must be below --max_wav_duration {max_seconds:g}"
        )
    rate = _rate(tables)
    shortest, longest = int(min_seconds * rate), int(max_seconds * rate)
    keep, dropped = set(), {"too short": 0, "too long": 0, "without text": 0}
    for utt, samples in tables["utt2num_samples"].items():
        if int(samples) <= shortest:
            dropped["too short"] += 1
        elif int(samples) >= longest:
            dropped["too long"] += 1
        elif not tables["text"][utt]:
            dropped["without text"] += 1
        else:
            keep.add(utt)
    what = ", ".join(f"{count} {why}" for why, count in dropped.items())
    total = len(tables["utt2num_samples"])
    if not keep:
        raise UserError(
            f"{label}: of {total} utterances none is left between {min_seconds:g} and "
            f"{max_seconds:g} s ({what})"
        )
    logging.info(f"{label}: kept {len(keep)} of {total} utterances, dropped {what}")
    return select(tables, keep)


def _rate(tables: Tables) -> int:
    # One file speaks for all: the stage that formats the audio allows one rate only.
    path = next(iter(tables["wav.scp"].values()))
    try:
        return read_header(path).rate
    except BadAudio as e:
        raise UserError(f"{path}: {e}; run the stage that formats the audio again") from None
