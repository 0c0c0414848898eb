"""The plot of the WER of every seed."""

from pathlib import Path
from typing import Dict, Optional

from espnet_kd.report.figures import TEACHER, Look, drawing, legend_below, marks, panels, save
from espnet_kd.report.paths import by_path, spoken
from espnet_kd.report.seeds import Runs


def wer_of_seeds(runs: Runs, path: Path) -> Optional[Path]:
    """One panel a test set: a point a run, the mean as a bar; None without matplotlib."""
    first, *students = runs.models
    groups = by_path(students)
    order = [first, *(m for group in groups.values() for m in group)]
    looks: Dict[Optional[str], Look] = {None: TEACHER}
    looks.update(marks(groups))
    with drawing() as possible:
        if not possible:
            return None
        fig, axes = panels(len(runs.test_sets), (max(4.2, 0.45 * len(order)), 4.2))
        for ax, test_set in zip(axes, runs.test_sets):
            seen = set()
            for x, m in enumerate(order):
                wer = runs.wer(m.name, test_set)
                label = None if m.path in seen else spoken(m.path or "first teacher")
                seen.add(m.path)
                # Spread a little: equal rates would hide each other.
                places = [x + 0.12 * (k - (len(wer) - 1) / 2) for k in range(len(wer))]
                ax.plot([x - 0.3, x + 0.3], [wer.mean()] * 2, color=looks[m.path]["color"])
                dots = {**looks[m.path], "linestyle": "", "markersize": 6, "alpha": 0.7}
                ax.plot(places, wer, **dots, label=label)
            teacher = runs.wer(first.name, test_set).mean()
            ax.axhline(teacher, color=TEACHER["color"], linestyle=":", linewidth=1)
            ax.set_xticks(range(len(order)), [m.name for m in order], rotation=40, ha="right")
            ax.grid(axis="x", visible=False)
            ax.set_ylim(bottom=0)
            ax.set_title(test_set)
            ax.set_ylabel("WER (%), lower is better")
        legend_below(fig, axes[0].get_legend_handles_labels()[0], 1.4)
        return save(fig, path)
