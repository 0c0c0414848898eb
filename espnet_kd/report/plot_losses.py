"""The plot of training and validation losses."""

import math
from pathlib import Path
from typing import List, Sequence, Tuple

from espnet_kd.common.records import Epoch, Figures
from espnet_kd.report.figures import panels, save
from espnet_kd.report.rows import Row

PARTS = {"train": ("#0072B2", "-"), "valid": ("#E69F00", "--")}


def loss_curves(rows: Sequence[Row], path: Path) -> Path:
    """One panel a model, the same loss and the same scale in all of them."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    rows = [row for row in rows if row.history]
    # A student's total loss has the distillation term in it; the transducer's own loss is
    # what compares across models.
    rnnt = "loss_transducer"
    key = rnnt if all(any(_curve(r.history, p, rnnt) for p in PARTS) for r in rows) else "loss"
    fig, axes = panels(len(rows), (3.2, 3.1), sharey=True)
    for ax, row in zip(axes, rows):
        for part, (color, style) in PARTS.items():
            curve = _curve(row.history, part, key)
            if curve:
                ax.plot(*zip(*curve), style, marker=".", color=color, label=part)
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        ax.yaxis.set_minor_formatter(NullFormatter())
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        ax.set_title(row.name)
        ax.set_xlabel("Epoch")
    axes[0].set_ylabel(f"{'Transducer' if key == rnnt else 'Total'} loss (log scale)")
    axes[0].legend()
    return save(fig, path)


def _figures(epoch: Epoch, part: str) -> Figures:
    return epoch.get("train", {}) if part == "train" else epoch.get("valid", {})


def _curve(history: List[Epoch], part: str, key: str) -> List[Tuple[int, float]]:
    """Return (epoch, value) where a value was recorded that a log scale can show."""
    points = [(epoch["epoch"], _figures(epoch, part).get(key)) for epoch in history]
    return [(e, v) for e, v in points if v is not None and math.isfinite(v) and v > 0]
