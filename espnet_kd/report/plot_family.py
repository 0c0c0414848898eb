"""The plot of a family: WER against size, every way, a dot a run."""

from pathlib import Path
from typing import Optional

from espnet_kd.report.figures import TEACHER, drawing, legend_below, marks, panels, save
from espnet_kd.report.paths import PROGRESSIVE, by_way, spoken
from espnet_kd.report.seeds import Runs


def wer_of_family(runs: Runs, path: Path) -> Optional[Path]:
    """One panel a test set, lines through the means of each way; None without matplotlib.

    A way that is far worse than the steps is outside the axis; the legend says how far.
    """
    first, *students = runs.models
    groups = {name: group for name, group in by_way(students).items() if len(group) > 1}
    looks = marks(groups)
    with drawing() as possible:
        if not possible:
            return None
        fig, axes = panels(len(runs.test_sets), (5.2, 4.2))
        for ax, test_set in zip(axes, runs.test_sets):
            teacher = runs.wer(first.name, test_set)
            ax.axhline(teacher.mean(), color=TEACHER["color"], linestyle=":", linewidth=1)
            dots = {**TEACHER, "linestyle": "", "markersize": 12}
            ax.plot([first.params] * len(teacher), teacher, **dots, label="first teacher")
            means = {m.name: runs.wer(m.name, test_set).mean() for m in students}
            steps = [means[m.name] for m in groups[PROGRESSIVE]]
            top = 1.7 * max([*steps, teacher.mean()])
            for k, (name, group) in enumerate(groups.items()):
                color, worst = looks[name]["color"], max(means[m.name] for m in group)
                outside = f", up to {worst:.0f} %" if worst > top else ""
                apart = 1 + 0.03 * (k - (len(groups) - 1) / 2)  # equal sizes would hide each other
                x = [apart * m.params for m in group]
                ax.plot(x, [means[m.name] for m in group], color=color, linewidth=1.3)
                for place, m in zip(x, group):
                    wer = runs.wer(m.name, test_set)
                    dot = {**looks[name], "linestyle": "", "markersize": 6, "alpha": 0.7}
                    label = spoken(name) + outside if m is group[0] else None
                    ax.plot([place] * len(wer), wer, **dot, label=label)
            ax.set_xscale("log")
            sizes = sorted({m.params for m in runs.models}, reverse=True)
            ax.set_xticks(
                sizes, [f"{size / 1000:,.0f}" for size in sizes], rotation=40, ha="right"
            )
            ax.minorticks_off()
            ax.invert_xaxis()
            highest = max(x for x in [*means.values(), teacher.mean()] if x <= top)
            ax.set_ylim(0, 1.25 * highest)
            ax.set_title(test_set)
            ax.set_xlabel("Parameters used in decoding (thousand)")
            ax.set_ylabel("WER (%), lower is better")
        legend_below(fig, axes[0].get_legend_handles_labels()[0], 2.2)
        return save(fig, path)
