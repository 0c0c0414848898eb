"""The plots of a run: WER against parameters, loss curves."""

import math
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

from espnet_kd.fileio import atomic_path
from espnet_kd.report.rows import Row

# Okabe and Ito's colours: told apart by colour-blind readers and in grey.
TEACHER, STUDENT, GREY = "#D55E00", "#0072B2", "#777777"
PARTS = {"train": ("#0072B2", "-"), "valid": ("#E69F00", "--")}
FIRST = "first teacher"
STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "axes.axisbelow": True,
    "legend.frameon": False,
}


def draw(rows: Sequence[Row], test_sets: Sequence[str], folder: Path) -> Optional[List[Path]]:
    """Draw what there is data for.

    Returns:
        The files written, or None if matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError:
        return None
    matplotlib.use("Agg")
    with matplotlib.rc_context(STYLE):
        paths = [_wer_against_params(rows, test_sets, folder / "wer_vs_params.png")]
        if any(row.history for row in rows):
            paths.append(_loss_curves(rows, folder / "loss_curves.png"))
    return paths


def _panels(number: int, size: Tuple[float, float], **kwargs):
    """Make a grid of at most 4 columns; return the figure and `number` axes."""
    import matplotlib.pyplot as plt

    columns = min(number, 4)
    lines = math.ceil(number / columns)
    figsize = (size[0] * columns, size[1] * lines)
    fig, axes = plt.subplots(
        lines, columns, figsize=figsize, squeeze=False, layout="constrained", **kwargs
    )
    for spare in axes.flat[number:]:
        spare.set_axis_off()
    return fig, list(axes.flat[:number])


def _save(fig, path: Path) -> Path:
    import matplotlib.pyplot as plt

    with atomic_path(path) as tmp:
        fig.savefig(tmp, dpi=150, format="png")
    plt.close(fig)
    return path


def _wer_against_params(rows: Sequence[Row], test_sets: Sequence[str], path: Path) -> Path:
    """One panel a test set: the way from the teacher down, with the intervals."""
    fig, axes = _panels(len(test_sets), (4.8, 4.4))
    scale, unit = (1e6, "million") if rows[0].params >= 1e6 else (1e3, "thousand")
    x = [row.params / scale for row in rows]
    for ax, test_set in zip(axes, test_sets):
        y = [row.wer[test_set] for row in rows]
        ax.axhline(y[0], color=TEACHER, linestyle=":", linewidth=1)
        ax.plot(x, y, color=GREY, linewidth=1)
        tops = [y[0]]
        for k, row in enumerate(rows[1:], 1):
            i = row.wer_diff[test_set]
            # The interval is that of the difference: it hangs on the teacher's WER.
            low, high = y[0] + i.low, y[0] + i.high
            fill = STUDENT if i.significant else "white"
            ax.plot([x[k], x[k]], [low, high], "_-", color=STUDENT, markersize=9, linewidth=1.5)
            ax.plot(x[k], y[k], "o", color=STUDENT, markersize=7, markerfacecolor=fill)
            tops.append(max(high, y[k]))
        ax.plot(x[0], y[0], "*", color=TEACHER, markersize=15)
        for k, row in enumerate(rows):
            # Aslant and above all bars: names of students close in size stay apart.
            ax.annotate(
                f"{row.name}, −{100 * row.compression:.0f} %" if k else row.name,
                (x[k], max(tops)),
                xytext=(0, 10),
                textcoords="offset points",
                rotation=40,
                rotation_mode="anchor",
                fontsize=8.5,
            )
        ax.set_title(test_set)
        ax.set_xlim(0, 1.2 * max(x))
        ax.set_ylim(min([0.0, *(y[0] + r.wer_diff[test_set].low for r in rows[1:])]), None)
        ax.set_ylim(top=1.35 * max(tops) or 1.0)
        ax.set_xlabel(f"Parameters used in decoding ({unit})")
        ax.set_ylabel("WER (%), lower is better")
    columns = min(2, len(axes))
    fig.legend(handles=_handles(), loc="outside lower center", ncols=columns, fontsize=8.5)
    return _save(fig, path)


def _handles() -> List[Any]:
    from matplotlib.lines import Line2D

    dot = {"marker": "o", "color": STUDENT, "linestyle": "", "markersize": 7}
    bar = {"marker": "|", "color": STUDENT, "markersize": 12, "markeredgewidth": 1.5}
    return [
        Line2D([], [], marker="*", color=TEACHER, linestyle=":", markersize=12, label=FIRST),
        Line2D([], [], linestyle="", **bar, label="95 % interval of the difference to it"),
        Line2D([], [], **dot, label="student that differs significantly"),
        Line2D([], [], **dot, markerfacecolor="white", label="student that does not"),
    ]


def _loss_curves(rows: Sequence[Row], path: Path) -> Path:
    """One panel a model, the same loss and the same scale in all of them."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    rows = [row for row in rows if row.history]
    # A student's total loss has the distillation term in it; the transducer's own loss is
    # what compares across models.
    own = "loss_transducer"
    key = own if all(any(_curve(r.history, p, own) for p in PARTS) for r in rows) else "loss"
    fig, axes = _panels(len(rows), (3.2, 3.1), sharey=True)
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
    axes[0].set_ylabel(f"{'Transducer' if key == own else 'Total'} loss (log scale)")
    axes[0].legend()
    return _save(fig, path)


def _curve(history: List[Dict[str, Any]], part: str, key: str) -> List[Tuple[int, float]]:
    """Return (epoch, value) where a value was recorded that a log scale can show."""
    points = [(epoch["epoch"], epoch.get(part, {}).get(key)) for epoch in history]
    return [(e, v) for e, v in points if v is not None and math.isfinite(v) and v > 0]
