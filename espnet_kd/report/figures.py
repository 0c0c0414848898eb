"""Common parts of all plots: style, colours of the paths, panels, saving."""

import contextlib
import math
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Tuple

from espnet_kd.fileio import atomic_path
from espnet_kd.report.paths import KNOWN

# Okabe and Ito's colours: told apart by colour-blind readers; the markers also in grey.
Look = Dict[str, Any]  # arguments of matplotlib's markers
TEACHER: Look = {"color": "#D55E00", "marker": "*"}
MARKS: Dict[str, Look] = dict(
    zip(
        KNOWN,
        (
            {"color": "#0072B2", "marker": "o"},
            {"color": "#E69F00", "marker": "s"},
            {"color": "#CC79A7", "marker": "D"},
            {"color": "#009E73", "marker": "^"},
        ),
    )
)
# For all other paths: 3 and 7 have no common factor, so 21 paths look different.
OTHER_COLORS = ("#56B4E9", "#000000", "#777777")
OTHER_MARKERS = ("v", "P", "X", "<", "p", ">", "d")
STYLE: Any = {  # to matplotlib's types, names of options are no plain text
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "axes.axisbelow": True,
    "legend.frameon": False,
}


def marks(paths: Iterable[str]) -> Dict[str, Look]:
    """Give each path its colour and marker: a known path the same in every report."""
    others = {
        path: {"color": OTHER_COLORS[k % 3], "marker": OTHER_MARKERS[k % 7]}
        for k, path in enumerate(path for path in paths if path not in KNOWN)
    }
    return {**MARKS, **others}


@contextlib.contextmanager
def drawing() -> Iterator[bool]:
    """Set matplotlib up for files; the value is False where it is not installed."""
    try:
        import matplotlib
    except ImportError:
        yield False
        return
    matplotlib.use("Agg")
    with matplotlib.rc_context(STYLE):
        yield True


def panels(number: int, size: Tuple[float, float], **kwargs: Any) -> Tuple[Any, List[Any]]:
    """Make a grid of at most 4 columns; return the figure and `number` axes.

    `size` is that of a panel in inches; a single one is wider.
    """
    import matplotlib.pyplot as plt

    columns = min(number, 4)
    lines = math.ceil(number / columns)
    figsize = (size[0] * (columns if columns > 1 else 1.3), size[1] * lines)
    fig, axes = plt.subplots(
        lines, columns, figsize=figsize, squeeze=False, layout="constrained", **kwargs
    )
    for spare in axes.flat[number:]:
        spare.set_axis_off()
    return fig, list(axes.flat[:number])


def legend_below(fig: Any, handles: List[Any], width: float = 2.6) -> None:
    """Put a legend below all panels, which keep their height.

    Args:
        fig: The figure.
        handles: Artists that have labels.
        width: Width of a column, in inches.
    """
    columns = max(1, min(len(handles), int(fig.get_figwidth() / width)))
    fig.set_figheight(fig.get_figheight() + 0.19 * math.ceil(len(handles) / columns))
    fig.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=8.5)


def logarithmic(ax: Any, low: float, high: float) -> None:
    """Make the horizontal axis logarithmic, with plain numbers even if it spans no decade."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    ax.set_xscale("log")
    ax.set_xlim(low, high)
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())


def save(fig: Any, path: Path) -> Path:
    """Write a PNG and forget the figure."""
    import matplotlib.pyplot as plt

    with atomic_path(path) as tmp:
        fig.savefig(tmp, dpi=150, format="png")
    plt.close(fig)
    return path
