"""The plot of WER against parameters."""

from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

from espnet_kd.report.figures import TEACHER, marks, panels, save
from espnet_kd.report.paths import PROGRESSIVE, by_path, spoken
from espnet_kd.report.rows import Row

STEP = 0.022  # between points of the same size, in widths of the axis


def wer_against_params(rows: Sequence[Row], test_sets: Sequence[str], path: Path) -> Path:
    """One panel a test set: the paths from the teacher down, with the intervals."""
    fig, axes = panels(len(test_sets), (4.8, 4.4))
    scale, unit = (1e6, "million") if rows[0].params >= 1e6 else (1e3, "thousand")
    right = 1.2 * max(row.params for row in rows) / scale
    x = _places(rows, scale, STEP * right)
    groups = by_path(rows[1:])
    looks = marks(groups)
    for ax, test_set in zip(axes, test_sets):
        teacher = rows[0].wer[test_set]
        ax.axhline(teacher, color=TEACHER["color"], linestyle=":", linewidth=1)
        tops = [teacher]
        for name, group in groups.items():
            # Only the progressive path leads down from the teacher student by student.
            line = [rows[0], *group] if name == PROGRESSIVE else group
            points = [(x[row.name], row.wer[test_set]) for row in line]
            ax.plot(*zip(*points), color=looks[name]["color"], linewidth=1, alpha=0.6)
            tops += [_point(ax, x[r.name], r, teacher, test_set, looks[name]) for r in group]
        ax.plot(x[rows[0].name], teacher, **TEACHER, markersize=15)
        for place, text in _labels(rows, x, 0.05 * right):
            # Aslant and above all bars: labels of students close in size stay apart.
            ax.annotate(
                text,
                (place, max(tops)),
                xytext=(0, 10),
                textcoords="offset points",
                rotation=40,
                rotation_mode="anchor",
                fontsize=8.5,
            )
        ax.set_title(test_set)
        ax.set_xlim(0, right)
        ax.set_ylim(min([0.0, *(teacher + r.wer_diff[test_set].low for r in rows[1:])]), None)
        ax.set_ylim(top=1.35 * max(tops) or 1.0)
        ax.set_xlabel(f"Parameters used in decoding ({unit})")
        ax.set_ylabel("WER (%), lower is better")
    handles = _handles({name: looks[name] for name in groups})
    columns = min(2 if len(axes) < 3 else 4, len(axes))
    fig.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=8.5)
    return save(fig, path)


def _point(
    ax: Any, x: float, row: Row, teacher: float, test_set: str, look: Dict[str, str]
) -> float:
    """Draw a student; return how high it reaches."""
    i = row.wer_diff[test_set]
    # The interval is that of the difference: it hangs on the teacher's WER.
    low, high = teacher + i.low, teacher + i.high
    fill = look["color"] if i.significant else "white"
    ax.plot([x, x], [low, high], "_-", color=look["color"], markersize=9, linewidth=1.5)
    ax.plot(x, row.wer[test_set], **look, markersize=7, markerfacecolor=fill)
    return max(high, row.wer[test_set])


def _places(rows: Sequence[Row], scale: float, step: float) -> Dict[str, float]:
    """Return where models stand on the x axis: those of one size side by side."""
    order = [rows[0], *(row for group in by_path(rows[1:]).values() for row in group)]
    places = {}
    for params in {row.params for row in rows}:
        same = [row.name for row in order if row.params == params]
        for k, name in enumerate(same):
            places[name] = params / scale + step * (k - (len(same) - 1) / 2)
    return places


def _labels(
    rows: Sequence[Row], x: Dict[str, float], apart: float
) -> List[Tuple[float, str]]:
    """Name the teacher and the sizes, and a student that is alone with its size."""
    labels = [(x[rows[0].name], rows[0].name)]
    groups = by_path(rows[1:])
    for row in (row for group in groups.values() for row in group):
        if all(abs(x[row.name] - place) > apart for place, _ in labels):
            alone = sum(r.params == row.params for r in rows) == 1
            name = f"{row.name}, " if alone else ""
            labels.append((x[row.name], f"{name}−{100 * row.compression:.0f} %"))
    return labels


def _handles(looks: Dict[str, Dict[str, str]]) -> List[Any]:
    from matplotlib.lines import Line2D

    grey = {"color": "#777777", "linestyle": ""}
    handles = [Line2D([], [], **TEACHER, linestyle=":", markersize=12, label="first teacher")]
    handles += [
        Line2D([], [], **look, linestyle="-", linewidth=1, markersize=7, label=spoken(name))
        for name, look in looks.items()
    ]
    if looks:
        bar = {"marker": "|", "markersize": 12, "markeredgewidth": 1.5}
        full = {"marker": "o", "markersize": 7}
        empty = {**full, "markerfacecolor": "white"}
        handles += [
            Line2D([], [], **grey, **bar, label="95 % interval of the difference to the teacher"),
            Line2D([], [], **grey, **full, label="filled: the interval excludes 0"),
            Line2D([], [], **grey, **empty, label="empty: it does not"),
        ]
    return handles
