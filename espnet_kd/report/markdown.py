"""`RESULTS.md`: the answer, the tables and plots behind it, then ESPnet's own tables."""

from pathlib import Path
from typing import List, Mapping, Optional, Sequence

from espnet_kd.methods.cascade import LOOKAHEAD
from espnet_kd.report.caveats import warnings
from espnet_kd.report.comparisons import PATHS, TEACHER
from espnet_kd.report.device_section import device_section, window_section
from espnet_kd.report.espnet_tables import espnet_block, espnet_tables
from espnet_kd.report.family_markdown import family_section, family_sentences
from espnet_kd.report.findings import Content
from espnet_kd.report.paths import by_path
from espnet_kd.report.tables import (
    breakdown_tables,
    comparison_table,
    cost_table,
    error_table,
    main_table,
    stock_table,
    wer_before,
)
from espnet_kd.report.words import UNKNOWN, answer, circumstances, energy_measured, made_once

CAPTIONS = {
    "wer_vs_params.png": "WER against parameters",
    "wer_vs_bytes.png": "WER against bytes, with the Pareto front",
    "wer_vs_rtf.png": "WER against real-time factor, with the Pareto front",
    "wer_vs_condition.png": "WER by condition",
    "loss_curves.png": "Training and validation loss",
    "dev_wer_curves.png": "WER on a part of the validation set while training (scales differ)",
}

ALIGNED = (
    "are of `aligned` decoding: chunks lie where they lay in training, and every frame is heard. "
    "ESPnet's own streaming, which decodes these models without this package, drops an "
    "utterance's first encoder frame (40 ms, as a rule) and its last, and its first chunk is "
    "shorter. Where speech begins at once, that costs words"
)


def results_md(
    content: Content,
    environment: Mapping[str, object],
    plots: Sequence[Path],
    title: str,
    note: Optional[str] = None,
    left_out: Sequence[str] = (),
) -> str:
    """Write the report.

    Args:
        content: Findings to report.
        environment: See `environment.environment`.
        plots: Files beside the report; shown as relative links.
        title: Head line.
        note: Remark that a reader must see first, e.g. that the speech is synthetic.
        left_out: Names of models of the run that were not scored.
    """
    rows, test_sets = content.rows, content.test_sets
    lines = [f"# {title}", ""]
    if note:
        lines += [f"> **{note}**", ""]
    lines += [first_paragraph(content), ""]
    for sentence in warnings(rows, test_sets):
        lines += [f"> **Warning:** {sentence}", ""]
    lines += main_table(rows, test_sets, content.to_teacher)
    if left_out:
        lines += ["", f"Not scored on all test sets, and left out: {', '.join(left_out)}."]
    lines += ["", *_legend(content), ""]
    if content.stock_tag:
        lines += ["## With ESPnet's own streaming", "", f"All other figures {ALIGNED}.", ""]
        lines += [*stock_table(rows, test_sets), ""]
    lines += window_section(rows, test_sets)
    lines += device_section(content)
    for path in plots:
        lines += [f"![{CAPTIONS.get(path.name, path.stem)}]({path.name})", ""]
    if content.comparisons:
        lines += ["## Is it real?", "", *_about_comparisons(content), ""]
        lines += comparison_table(content.comparisons)
        lines += ["", *_families(content)]
        lines += ["## What it cost", "", *_about_costs(content), "", *cost_table(rows), ""]
    lines += ["## Errors by kind", ""]
    lines += error_table(rows, test_sets, content.to_teacher)
    lines += breakdown_tables(content.breakdowns)
    lines += ["", *espnet_block(environment)]
    for row in rows:
        lines += espnet_tables(row, content.inference_tag)
    return "\n".join(lines).rstrip() + "\n"


def first_paragraph(content: Content) -> str:
    """Say what the run shows: of the smallest student, of its family, and at what cost."""
    sentences = family_sentences(content.families, content.family_costs, content.margin)
    return " ".join([answer(content.rows, content.test_sets, content.comparisons), *sentences])


def _legend(content: Content) -> List[str]:
    lines = [
        "Lower is better everywhere, except that *smaller by* counts what was saved.",
        "",
        "- *Stage*: trainings since the first teacher, which is 0.",
        "- *Parameters*: what decoding uses (encoder, decoder, joint network). *Smaller by*: "
        "share of the first teacher's parameters that is gone. *MB*: the checkpoint file, "
        "10^6 bytes.",
        "- *Difference*: WER minus the first teacher's, in points, with its 95 % interval: paired "
        f"bootstrap ({content.draws:,} draws, seed {content.seed}; Bisani and Ney, ICASSP 2004), "
        "stretched where few are drawn (Student's distribution). Drawn are, "
        + "; ".join(f"for {s}, {g.describe()}" for s, g in content.groupings.items())
        + ". † marks a difference that is significant after correction, as *Is it "
        "real?* explains. Each model was trained once: the interval does not say how another "
        "seed would have come out.",
        "- *RTF*: seconds of decoding for a second of speech; "
        + (circumstances(content.speed) if content.speed else "not measured here")
        + ".",
        f"- *J per hour*, joules of decoding: {energy_measured(content.speed)}.",
        "- *Training*: wall time of this model's own epochs with their validation, without that "
        "of its teachers. *MiB*: peak memory of the process, imports included (2^20 bytes), when "
        "it decodes one utterance after the other and when it trains.",
        f"- {UNKNOWN}: does not apply, or was not recorded here.",
    ]
    if content.decoding == "aligned" and not content.stock_tag:
        lines.append(f"- WER, CER and RTF {ALIGNED}; how many was not measured here.")
    if any(row.on_device for row in content.rows):
        lines[4:4] = [
            "- *On a device*: learnt numbers, and 10^6 bytes, of `device.<average>.npz`, which "
            "holds what decoding computes with: factors, or codes of few bits and their scales.",
        ]
    if any(row.path == LOOKAHEAD for row in content.rows):
        lines[3:3] = [
            "- *Lookahead*: the second student of a training with `cascade`. Whatever the others "
            "are decoded in, its chunks are longer, by the frames that the plan says; so is its "
            "delay.",
        ]
    lines[3:3] = [
        f"- *{row.name}* is not a stock ESPnet model, and decodes with espnet_kd: {row.not_stock}."
        for row in content.rows
        if row.not_stock
    ]
    lines[3:3] = made_once({row.name: row.also_on for row in content.rows})
    if len(by_path(content.rows[1:])) > 1:
        lines[3:3] = [
            "- *Paths*, in italics: *progressive* goes down stage by stage, each student teaching "
            "the next; *one shot* learns the small model from the first teacher at once; "
            "*scratch* is trained without a teacher; others are named in the plan.",
        ]
    return lines


def _about_comparisons(content: Content) -> List[str]:
    tested = [c for c in content.comparisons if not c.remark]
    sizes = [sum(c.family == f for c in tested) for f in (TEACHER, PATHS)]
    if not tested:
        return ["Nothing can be concluded from these differences; the verdict says why."]
    lines = [
        "Differences of WER in points, the second model's subtracted, with the interval above. "
        "*p*: matched-pairs test (Gillick and Cox, ICASSP 1989; its segments are what "
        "the bootstrap draws; Student's distribution), two-sided: how often chance alone gives "
        "such a difference or a larger one. Of many comparisons some look significant by chance; "
        f"*p, Holm* is corrected for the {sizes[0]} comparisons with the teacher"
        + (f" and, separately, for the {sizes[1]} between paths" if sizes[1] else "")
        + ". A difference is called *significant*, and marked with †, if its interval excludes 0 "
        "and the corrected p is below 0.05. *Not significant* is not *equal*: the interval says "
        "how large the difference may still be."
    ]
    if sizes[1]:
        lines[0] += (
            " Students of equal size are compared across paths; each was trained once, so "
            "the luck of one training is part of the difference (`report_seeds` pools several)."
        )
    return lines


def _families(content: Content) -> List[str]:
    rows = {row.name: row for row in content.rows}
    return family_section(
        content.families,
        content.family_costs,
        lambda name: f"{rows[name].params:,} (−{100 * rows[name].compression:.0f} %)",
        lambda name, test_set: f"{rows[name].wer[test_set]:.2f}",
        content.margin,
        1,
    )


def _about_costs(content: Content) -> List[str]:
    text = (
        "*Of the path*: this student's training and that of all students before it on its way "
        "from the first teacher, whose own training stands apart. Times are of epochs and their "
        "validation, beside whatever else the machine did: the start of processes, the derivation "
        "of each student (one a step) and the making of a teacher cache come on top. "
        "*Teacher-epochs*: operations in epochs of the first teacher's training, by the number of "
        "parameters (forward and backward three times a forward pass; Kaplan et al., arXiv "
        "2001.08361): students, forward passes of their teachers or one over the training set for "
        "a cache, derivation where it was recorded; an epoch on another set by its audio."
    )
    if any(wer_before(row) is not None for row in content.rows):
        text += (
            " *Before training*: WER of the student as it was derived, its teacher's on the same "
            "utterances in brackets."
        )
    if any(row.cost.kwh is not None for row in content.rows):
        text += " *kWh*: that time at the power which `--train_watts` names, the same for all."
    if any(row.gate for row in content.rows):
        text += " *Gate*: what the check of the student against its teacher decided."
    return [text]
