"""The plot of WER against condition, e.g. the noise level."""

from pathlib import Path
from typing import Sequence

from espnet_kd.report.breakdowns import Breakdown
from espnet_kd.report.figures import TEACHER, legend_below, marks, panels, save
from espnet_kd.report.paths import by_path
from espnet_kd.report.rows import Row

LINES = ("-", "--", ":", "-.")


def wer_against_condition(
    rows: Sequence[Row], breakdowns: Sequence[Breakdown], path: Path
) -> Path:
    """One panel a test set, a line a model: colour by path, style by size."""
    longest = max(len(b.labels) for b in breakdowns)
    fig, axes = panels(len(breakdowns), (max(4.2, 0.6 * longest), 4.0))
    groups = by_path(rows[1:])
    looks = marks(groups)
    for ax, b in zip(axes, breakdowns):
        x = range(len(b.labels))
        ax.plot(x, b.wer[rows[0].name], **TEACHER, linewidth=2, markersize=11, label=rows[0].name)
        for name, group in groups.items():
            for k, row in enumerate(group):
                style = {**looks[name], "linestyle": LINES[k % len(LINES)], "linewidth": 1.3}
                ax.plot(x, b.wer[row.name], **style, markersize=5, label=row.name)
        # Many labels would run into each other.
        turned = {"rotation": 40, "ha": "right"} if sum(map(len, b.labels)) > 30 else {}
        ax.set_xticks(x, b.labels, **turned)
        ax.set_title(b.test_set)
        ax.set_ylim(bottom=0)
        ax.set_xlabel("Condition")
        ax.set_ylabel("WER (%), lower is better")
    legend_below(fig, axes[0].get_legend_handles_labels()[0], 1.7)
    return save(fig, path)
