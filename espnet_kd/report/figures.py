"""What all plots share: style, colours of the paths, panels, saving."""

import contextlib
import math
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Tuple

from espnet_kd.fileio import atomic_path
from espnet_kd.report.paths import KNOWN

# Okabe and Ito's colours: told apart by colour-blind readers; the markers also in grey.
TEACHER = {"color": "#D55E00", "marker": "*"}
MARKS = (
    {"color": "#0072B2", "marker": "o"},
    {"color": "#E69F00", "marker": "s"},
    {"color": "#CC79A7", "marker": "D"},
    {"color": "#009E73", "marker": "^"},
    {"color": "#56B4E9", "marker": "v"},
    {"color": "#000000", "marker": "P"},
    {"color": "#777777", "marker": "X"},
)
STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "axes.axisbelow": True,
    "legend.frameon": False,
}


def marks(paths: Iterable[str]) -> Dict[str, Dict[str, str]]:
    """Give each path its colour and marker: a known path the same in every report."""
    other = [path for path in paths if path not in KNOWN]
    free = MARKS[len(KNOWN) :]
    return {
        **dict(zip(KNOWN, MARKS)),
        **{path: free[k % len(free)] for k, path in enumerate(other)},
    }


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


def save(fig: Any, path: Path) -> Path:
    """Write a PNG and forget the figure."""
    import matplotlib.pyplot as plt

    with atomic_path(path) as tmp:
        fig.savefig(tmp, dpi=150, format="png")
    plt.close(fig)
    return path
