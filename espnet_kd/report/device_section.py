"""The part of `RESULTS.md` on models as devices would run them, and on sizes of chunks."""

from typing import List, Optional, Sequence

from espnet_kd.common.records import Late
from espnet_kd.report.findings import Content
from espnet_kd.report.rows import Row
from espnet_kd.report.tables import table
from espnet_kd.report.variants import ESPNET, Variant, grouping_of, pareto_front
from espnet_kd.report.words import UNKNOWN, interval, number, signed


def device_section(content: Content) -> List[str]:
    """Write a row a student and format; nothing if the tables above say it all."""
    variants = content.variants
    if content.delay is None and all(v.format == ESPNET for v in variants):
        return []
    lines = ["## On a device", "", *_table(variants), "", *_legend(content)]
    for what, axis in (("bytes", [float(v.bytes) for v in variants]), ("RTF", _medians(variants))):
        names = front_names(variants, axis)
        if names:
            lines.append(f"- No other has both fewer errors and less {what}: {', '.join(names)}.")
    lines += [
        f"- \\* {v.name} was beyond the margin when exported: {v.beyond}. It is left out "
        "above, and of the fronts of the plots."
        for v in variants
        if v.beyond
    ]
    return [*lines, ""]


def _table(variants: Sequence[Variant]) -> List[str]:
    energy = any(v.joules_per_hour is not None for v in variants)
    head = ["Model", "Format", "Bytes", "Smaller", "RTF", *["J per hour"] * energy]
    head += ["Peak MiB", "Latency ms", "Delay ms", "first token", "last token", "frames alone"]
    head += ["WER %", "difference"]
    body = []
    for v in variants:
        rtf = f"{v.rtf['median']:.4f} ({v.rtf['p95']:.4f})" if v.rtf else UNKNOWN
        form = f"{v.format} \\*" if v.beyond else v.format
        cells = [v.model, form, f"{v.bytes:,}", f"{variants[0].bytes / v.bytes:.1f} ×"]
        cells += [rtf, *[number(v.joules_per_hour, 0)] * energy, number(v.decode_memory_mb, 0)]
        cells += [number(v.latency_ms, 0)]
        cells += [_late(v.delay.get(kind)) for kind in ("token", "first", "last", "frames")]
        cells += [number(v.wer, 2)]
        diff = v.wer_diff
        cells += [f"{signed(diff.diff, 2)} ({interval(diff, 2)})" if diff else UNKNOWN]
        body.append(cells)
    return table(head, body, left=2)


def _late(late: Optional[Late]) -> str:
    return f"{late['median']:.0f} ({late['p90']:.0f})" if late else UNKNOWN


def _legend(content: Content) -> List[str]:
    lines = [
        "- *Format*: `ESPnet` is the checkpoint in PyTorch, the others are exported folders "
        "under onnxruntime. *Bytes*: the files that hold the model's numbers. *Smaller*: how many "
        "times they go into the first teacher's checkpoint.",
        "- *RTF*, *J per hour* where it is known, and *Peak MiB*: of the recipe's search, as "
        "above, all formats in turn in one process on one thread; memory of each in a process of "
        "its own, imports included.",
    ]
    delay = content.delay
    if delay is None:
        return [*lines, "- Delays and WER were not measured here."]
    drawn = f"drawn are {grouping_of(delay, content.drawn_by).describe()}"
    if "speakers" not in delay:
        drawn = "by utterance, too narrow: `delay.json` is of a version that names no speakers"
    lines += [
        "- *Latency* (algorithmic): how long the first frame of a chunk waits until the chunk, "
        "and what subsampling and front end look ahead, is there; the last frame waits a chunk "
        "less. Computing comes on top (RTF times the chunk).",
        "- *Delay*: from when a token is spoken until it can be shown, median and in brackets "
        "the 90th percentile, over the tokens on which transcript and hypothesis agree. Spoken: "
        f"on the best path of `{delay['alignment']}`, hearing whole utterances, through the "
        "lattice of the transcript; where that model is itself late, all delays are short. Shown: "
        "when the chunk of the frame that emits it can be computed, or the utterance ends. "
        "*First* and *last token* of an utterance; *frames alone*: the emitting frame against the "
        "aligned one, without the waiting for a chunk.",
        f"- *WER* and delays are of greedy search, whose tokens never change once they are "
        f"emitted, on {delay['utterances']:,} utterances ({delay['audio_seconds']:,.0f} s) of all "
        "test sets together: other than the tables above, which are of the recipe's search. "
        f"*Difference*: to the first teacher, in points, with its 95 % interval ({drawn}); not "
        "corrected for the number of comparisons.",
    ]
    return lines


def _medians(variants: Sequence[Variant]) -> List[Optional[float]]:
    return [v.rtf["median"] if v.rtf else None for v in variants]


def front_names(variants: Sequence[Variant], axis: Sequence[Optional[float]]) -> List[str]:
    """Name the variants within the margin that no other one beats in cost and WER.

    The cheapest comes first.

    Args:
        variants: The variants.
        axis: Cost of each; None: unknown.
    """
    known = [
        (v, x, v.wer)
        for v, x in zip(variants, axis)
        if x is not None and v.wer is not None and not v.beyond
    ]
    return [known[k][0].name for k in pareto_front([(x, wer) for _, x, wer in known])]


def window_section(rows: Sequence[Row], test_sets: Sequence[str]) -> List[str]:
    """Write the WER of each model in chunks of other lengths; nothing if there are none."""
    windows = list(rows[0].wer_windows)
    if not windows:
        return []
    head = ["Model", *(f"{s}, {w} ms" for s in test_sets for w in windows)]
    body = [
        [r.name, *(number(r.wer_windows.get(w, {}).get(s), 2) for s in test_sets for w in windows)]
        for r in rows
    ]
    return [
        "## WER % by length of the chunks",
        "",
        "The same models, not trained again, each decoded in chunks of these lengths "
        "(`--decoding_windows`), with the same number of frames before a chunk.",
        "",
        *table(head, body),
        "",
    ]
