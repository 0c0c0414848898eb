"""The plot of WER by condition, e.g. the noise level."""

from pathlib import Path
from typing import List, Sequence

from espnet_kd.report.breakdowns import Breakdown
from espnet_kd.report.figures import TEACHER, legend_below, marks, panels, save
from espnet_kd.report.paths import PROGRESSIVE, by_path, spoken
from espnet_kd.report.rows import Row


def wer_by_condition(rows: Sequence[Row], breakdowns: Sequence[Breakdown], path: Path) -> Path:
    """One panel a condition, each with its own scale: WER of the paths against parameters."""
    places = [(b, k) for b in breakdowns for k in range(len(b.labels)) if b.words[k]]
    fig, axes = panels(len(places), (2.9, 2.6), sharex=True)
    groups = by_path(rows[1:])
    looks = marks(groups)
    sizes = {row.name: row.params / rows[0].params * 100 for row in rows}
    for n, (ax, (b, k)) in enumerate(zip(axes, places)):
        teacher = b.wer[rows[0].name][k]
        ax.axhline(teacher, color=TEACHER["color"], linestyle=":", linewidth=1)
        for name, group in groups.items():
            line = [rows[0], *group] if name == PROGRESSIVE else group
            x, y = [sizes[row.name] for row in line], [b.wer[row.name][k] for row in line]
            ax.plot(x, y, **looks[name], linewidth=1.2, markersize=5, label=spoken(name))
        ax.plot(100, teacher, **TEACHER, linestyle="", markersize=12, label="first teacher")
        ax.set_xscale("log")
        ticks = _ticks(min(sizes.values()))
        ax.set_xticks(ticks, [f"{tick} %" for tick in ticks])
        ax.minorticks_off()
        ax.set_title(f"{b.test_set}, {b.labels[k]} ({b.words[k]:,} words)", fontsize=9)
        ax.tick_params(labelbottom=True)
        ax.set_ylim(bottom=0)
        ax.set_xlabel("Parameters, of the first teacher's", fontsize=9)
        if n % 4 == 0:
            ax.set_ylabel("WER (%)")
    legend_below(fig, axes[0].get_legend_handles_labels()[0], 1.7)
    return save(fig, path)


def _ticks(least: float) -> List[int]:
    """Sizes in percent, halved from 100 until the smallest model is passed."""
    ticks = [100]
    while ticks[-1] > max(least, 1):
        ticks.append(ticks[-1] // 2)
    return ticks
