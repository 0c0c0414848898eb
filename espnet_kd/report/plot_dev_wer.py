"""The plot of the WER that training watched on a part of the validation set."""

from pathlib import Path
from typing import Any, Dict, Sequence

from espnet_kd.report.figures import TEACHER, legend_below, panels, save
from espnet_kd.report.rows import Row


def dev_wer_curves(rows: Sequence[Row], path: Path) -> Path:
    """One panel a model, WER (greedy search) after each epoch, on a scale of its own."""
    from matplotlib.ticker import MaxNLocator

    rows = [row for row in rows if has_dev_wer(row)]
    fig, axes = panels(len(rows), (3.2, 2.8))
    labelled: Dict[str, Any] = {}
    for n, (ax, row) in enumerate(zip(axes, rows)):
        valid = [(e["epoch"], e.get("valid", {})) for e in row.history]
        curve = [(epoch, v["wer"]) for epoch, v in valid if "wer" in v]
        ax.plot(*zip(*curve), marker=".", color="#E69F00", label="this model")
        teacher = next((v["wer_teacher"] for _, v in valid if "wer_teacher" in v), None)
        if teacher is not None:
            ax.axhline(teacher, color=TEACHER["color"], linestyle=":", label="its teacher")
        ax.set_ylim(bottom=0)
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        ax.set_title(row.name)
        ax.set_xlabel("Epoch")
        if n % 4 == 0:
            ax.set_ylabel("WER (%), greedy search")
        handles, labels = ax.get_legend_handles_labels()
        labelled.update(zip(labels, handles))
    legend_below(fig, list(labelled.values()), 1.4)
    return save(fig, path)


def has_dev_wer(row: Row) -> bool:
    """Whether training watched the WER."""
    return any("wer" in epoch.get("valid", {}) for epoch in row.history)
