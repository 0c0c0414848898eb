"""Plots of WER against bytes and against the real-time factor, with the Pareto front."""

import math
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

from espnet_kd.report.figures import TEACHER, legend_below, logarithmic, marks, panels, save
from espnet_kd.report.findings import Content
from espnet_kd.report.paths import by_path
from espnet_kd.report.variants import ESPNET, Variant, pareto_front

MARKERS = {ESPNET: "o", "float32": "s", "float16": "D", "int8": "^", "int4": "v"}
Point = Tuple[Variant, float, float]  # cost and WER
Box = Tuple[float, float, float, float]  # left, bottom, right, top, in shares of the axes


def wer_against_bytes(content: Content, path: Path) -> Optional[Path]:
    """Draw all models in all formats by size; None: there are not two."""
    points = [(v, v.bytes / 1e6, v.wer) for v in content.variants if v.wer is not None]
    return _draw(content, points, "MB (10⁶ bytes) of the model's numbers", path)


def wer_against_rtf(content: Content, path: Path) -> Optional[Path]:
    """Draw all models in all formats by speed; None: there are not two."""
    points = [(v, v.rtf["median"], v.wer) for v in content.variants if v.rtf and v.wer is not None]
    return _draw(content, points, "Real-time factor, median, one thread", path)


def _draw(content: Content, points: Sequence[Point], axis: str, path: Path) -> Optional[Path]:
    if len(points) < 2:
        return None
    fig, (ax,) = panels(1, (5.6, 4.4))
    colors = _colors(content)
    tops = [y for *_, y in points]
    teacher = next((y for v, _, y in points if v.wer_diff is None), None)
    for variant, x, y in points:
        marker, color = MARKERS.get(variant.format, "P"), colors[variant.model]
        fill = "none" if variant.beyond else color
        ax.plot(x, y, marker, color=color, markersize=8, zorder=3, markerfacecolor=fill)
        if variant.wer_diff is not None and teacher is not None:
            # The interval is that of the difference: it hangs on the teacher's WER.
            bounds = [teacher + variant.wer_diff.low, teacher + variant.wer_diff.high]
            ax.plot([x, x], bounds, "_-", color=color, markersize=7, linewidth=1, alpha=0.5)
            tops += bounds
    within = [point for point in points if not point[0].beyond]
    front = [within[k] for k in pareto_front([(x, y) for _, x, y in within])]
    _staircase(ax, front)
    xs = [x for _, x, _ in points]
    logarithmic(ax, min(xs) / 1.35, max(xs) * 1.6)
    ax.set_ylim(min(0.0, *tops), 1.1 * max(tops) or 1.0)
    ax.set_xlabel(f"{axis}: less is better (logarithmic)")
    ax.set_ylabel("WER (%) of greedy search, all test sets: less is better")
    _names(ax, points, {id(v) for v, *_ in front})
    legend_below(fig, _handles(points), 2.4)
    return save(fig, path)


def _colors(content: Content) -> Dict[str, Any]:
    groups = by_path(content.rows[1:])
    looks = marks(groups)
    colors = {r.name: looks[path]["color"] for path, rows in groups.items() for r in rows}
    return {**colors, content.rows[0].name: TEACHER["color"]}


def _staircase(ax: Any, front: Sequence[Point]) -> None:
    """Draw what the front dominates: nothing that was measured lies to its lower left."""
    xs, ys = [x for _, x, _ in front], [y for *_, y in front]
    ax.step([*xs, 1e9], [*ys, ys[-1]], where="post", color="#777777", linewidth=1.2, zorder=2)
    ax.plot([xs[0], xs[0]], [ys[0], 1e9], color="#777777", linewidth=1.2, zorder=2)


def _names(ax: Any, points: Sequence[Point], front: Any) -> None:
    """Name each point beside it, where neither a point nor another name stands."""
    (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
    wide, tall = math.log(right / left), high - low
    places = [(math.log(x / left) / wide, (y - low) / tall) for _, x, y in points]
    taken = [(a - 0.012, b - 0.02, a + 0.012, b + 0.02) for a, b in places]
    for (variant, x, y), (at, up) in zip(points, places):
        width = 0.0115 * len(variant.name)
        rights = [(at + 0.014, up + dy) for dy in (0.012, -0.045)]
        lefts = [(at - 0.014 - width, up + dy) for dy in (0.012, -0.045)]
        above = [(at - width / 2, up + dy) for dy in (0.03, -0.065, 0.075, -0.11, 0.12)]
        boxes = [(a, b, a + width, b + 0.035) for a, b in (*rights, *lefts, *above)]
        boxes = [box for box in boxes if 0 < box[0] and box[2] < 1] or boxes
        free = [box for box in boxes if not any(_overlap(box, t) for t in taken)]
        box = (free or boxes)[0]
        taken.append(box)
        ax.annotate(
            variant.name,
            (x, y),
            xytext=box[:2],
            textcoords="axes fraction",
            fontsize=8.5,
            fontweight="bold" if id(variant) in front else "normal",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.8},
        )


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _handles(points: Sequence[Point]) -> List[Any]:
    from matplotlib.lines import Line2D

    formats = dict.fromkeys(v.format for v, *_ in points)
    grey: Dict[str, Any] = {"color": "#777777"}
    handles = [
        Line2D([], [], **grey, linestyle="", marker=MARKERS.get(f, "P"), label=f) for f in formats
    ]
    if any(v.beyond for v, *_ in points):
        label = "hollow: beyond the margin of its export"
        hollow = Line2D([], [], **grey, marker="o", linestyle="", markerfacecolor="none")
        hollow.set_label(label)
        handles.append(hollow)
    bar = Line2D([], [], **grey, marker="|", markersize=12, linestyle="")
    bar.set_label("95 % interval of the difference to the teacher")
    return [*handles, Line2D([], [], **grey, label="Pareto front (names in bold)"), bar]
