"""Drop utterances that are too short, too long or without words."""

import logging

from espnet_kd.data.audio import BadAudio, read_header
from espnet_kd.data.bad_items import BadItems
from espnet_kd.data.kaldi_dir import Tables, select
from espnet_kd.errors import UserError


def filter_lengths(
    tables: Tables,
    min_seconds: float,
    max_seconds: float,
    dropped: BadItems,
    untranscribed: bool = False,
) -> Tables:
    """Keep utterances longer than `min_seconds`, shorter than `max_seconds`, with text.

    Both bounds are exclusive, as in stage 4 of ESPnet's `asr.sh`.

    Args:
        tables: The data directory.
        min_seconds: Lower bound.
        max_seconds: Upper bound.
        dropped: Takes what is dropped; its share holds for the utterances and for their hours.
        untranscribed: Whether utterances without text are kept.

    Raises:
        UserError: bounds that exclude everything, no `utt2num_samples`, too much dropped.
    """
    label, max_share = dropped.where, dropped.max_share
    if "utt2num_samples" not in tables:
        raise UserError(f"{label}: no utt2num_samples; run the stage that formats the audio first")
    if not 0 <= min_seconds < max_seconds:
        raise UserError(
            f"--min_wav_duration {min_seconds:g} must be below --max_wav_duration {max_seconds:g}"
        )
    rate = _rate(tables)
    lengths = {utt: _samples(utt, n, label) for utt, n in tables["utt2num_samples"].items()}
    shortest, longest = int(min_seconds * rate), int(max_seconds * rate)
    keep = set()
    for utt, samples in lengths.items():
        if samples <= shortest:
            dropped.add("too short", f"{utt}: {samples / rate:.3g} s")
        elif samples >= longest:
            dropped.add("too long", f"{utt}: {samples / rate:.3g} s")
        elif not untranscribed and not tables["text"][utt].split():
            dropped.add("without text", utt)
        else:
            keep.add(utt)
    if not dropped.count:
        logging.info(f"{label}: kept all {len(keep)} utterances")
        return tables
    hours, kept = (sum(lengths[utt] for utt in utts) / rate / 3600 for utts in (lengths, keep))
    what = (
        f"{dropped.count} of {len(lengths)} utterances ({dropped.count / len(lengths):.1%}), "
        f"{hours - kept:.2f} of {hours:.2f} hours: {dropped.describe()}"
    )
    if not keep or dropped.exceed(len(lengths)) or hours - kept > max_share * hours:
        raise UserError(
            f"{label}: would drop {what}; more than --max_dropped_share {max_share:g} allows: "
            "check the lengths and transcripts, or give another --min_wav_duration, "
            "--max_wav_duration or --max_dropped_share"
        )
    logging.warning(f"{label}: dropped {what}")
    return select(tables, keep)


def _samples(utt: str, samples: str, label: str) -> int:
    if not samples.isdecimal():
        raise UserError(f"{label}/utt2num_samples: '{utt}' has '{samples}', which is no number")
    return int(samples)


def _rate(tables: Tables) -> int:
    # One file speaks for all: the stage that formats the audio allows one rate only.
    path = next(iter(tables["wav.scp"].values()))
    try:
        return read_header(path).rate
    except BadAudio as e:
        raise UserError(f"{path}: {e}; run the stage that formats the audio again") from None
