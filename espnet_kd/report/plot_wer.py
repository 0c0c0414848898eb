"""The plot of WER against parameters."""

import math
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

from espnet_kd.report.comparisons import SIGNIFICANT, Comparison
from espnet_kd.report.figures import TEACHER, Look, legend_below, logarithmic, marks, panels, save
from espnet_kd.report.findings import Content
from espnet_kd.report.paths import PROGRESSIVE, by_path, spoken
from espnet_kd.report.rows import Row

STEP = 0.022  # between points of (nearly) the same size, in widths of the axis
FAR = 10  # times smaller than the teacher: the axis is logarithmic, or small sizes would collide


class _Sizes(NamedTuple):
    """The axis of parameters.

    Attributes:
        low: Its left end, in parameters.
        high: Its right end.
        log: Whether it is logarithmic.
    """

    low: float
    high: float
    log: bool

    @classmethod
    def of(cls, rows: Sequence[Row]) -> "_Sizes":
        """Choose it for models, the teacher the first."""
        sizes = [row.params for row in rows]
        if rows[0].params > FAR * min(sizes):
            return cls(min(sizes) / 1.5, 1.5 * max(sizes), True)
        return cls(0.0, 1.2 * max(sizes), False)

    def share(self, params: float) -> float:
        """Return where a size stands, in widths of the axis from the left."""
        if self.log:
            return math.log(params / self.low) / math.log(self.high / self.low)
        return params / self.high

    def at(self, share: float) -> float:
        """Return the size that stands at a place."""
        if self.log:
            return self.low * math.exp(share * math.log(self.high / self.low))
        return share * self.high


def wer_against_params(content: Content, path: Path) -> Path:
    """One panel a test set: the paths from the teacher down, with the intervals."""
    rows, test_sets = content.rows, content.test_sets
    fig, axes = panels(len(test_sets), (4.8, 4.4))
    sizes = _Sizes.of(rows)
    million = rows[0].params >= 1e6 and not sizes.log
    scale, unit = (1e6, "million") if million else (1e3, "thousand")
    clusters = _clusters(rows, sizes)
    x = {
        row.name: sizes.at(
            sum(sizes.share(r.params) for r in cluster) / len(cluster)
            + STEP * (k - (len(cluster) - 1) / 2)
        )
        / scale
        for cluster in clusters
        for k, row in enumerate(cluster)
    }
    groups = by_path(rows[1:])
    looks = marks(groups)
    for ax, test_set in zip(axes, test_sets):
        teacher = rows[0].wer[test_set]
        ax.axhline(teacher, color=TEACHER["color"], linestyle=":", linewidth=1)
        tops = [teacher]
        lows = [0.0]
        for name, group in groups.items():
            # Only the progressive path leads down from the teacher student by student.
            line = [rows[0], *group] if name == PROGRESSIVE else group
            points = [(x[row.name], row.wer[test_set]) for row in line]
            ax.plot(*zip(*points), color=looks[name]["color"], linewidth=1, alpha=0.6)
            for r in group:
                compared = content.to_teacher[r.name, test_set]
                low, top = _point(ax, x[r.name], r, teacher, compared, looks[name])
                lows.append(low)
                tops.append(top)
        ax.plot(x[rows[0].name], teacher, **TEACHER, markersize=15)
        # Sizes stand on an axis of their own, straight above their points.
        ends = sizes.low / scale, sizes.high / scale
        if sizes.log:
            logarithmic(ax, *ends)
        else:
            ax.set_xlim(*ends)
        places, texts = zip(*_labels(clusters, sizes, scale))
        above = ax.secondary_xaxis("top")
        above.set_xticks(places, texts, rotation=30, ha="left", rotation_mode="anchor")
        above.tick_params(length=3, labelsize=8.5)
        above.minorticks_off()
        for place in places:
            ax.axvline(place, color="#BBBBBB", linestyle=":", linewidth=0.8, zorder=0)
        ax.set_title(test_set)
        ax.set_ylim(min(lows), 1.08 * max(tops) or 1.0)
        ax.set_xlabel(f"Parameters used in decoding ({unit})")
        ax.set_ylabel("WER (%), lower is better")
    legend_below(fig, _handles({name: looks[name] for name in groups}))
    return save(fig, path)


def _point(
    ax: Any, x: float, row: Row, teacher: float, compared: Comparison, look: Look
) -> Tuple[float, float]:
    """Draw a student; return how low and how high it reaches."""
    wer = row.wer[compared.test_set]
    # The interval is that of the difference: it hangs on the teacher's WER.
    low, high = teacher + compared.interval.low, teacher + compared.interval.high
    if compared.remark:
        low = high = wer
    else:
        ax.plot([x, x], [low, high], "_-", color=look["color"], markersize=9, linewidth=1.5)
    fill = look["color"] if compared.verdict == SIGNIFICANT else "white"
    ax.plot(x, wer, **look, markersize=7, markerfacecolor=fill)
    return min(low, wer), max(high, wer)


def _clusters(rows: Sequence[Row], sizes: _Sizes) -> List[List[Row]]:
    """Group models that would stand closer than `STEP`: they are drawn side by side."""
    order = [rows[0], *(row for group in by_path(rows[1:]).values() for row in group)]
    clusters: List[List[Row]] = []
    for row in sorted(order, key=lambda row: row.params):
        if clusters and sizes.share(row.params) - sizes.share(clusters[-1][-1].params) < STEP:
            clusters[-1].append(row)
        else:
            clusters.append([row])
    return [sorted(cluster, key=order.index) for cluster in clusters]


def _labels(
    clusters: Sequence[Sequence[Row]], sizes: _Sizes, scale: float
) -> List[Tuple[float, str]]:
    """Name models that stand alone, and of the others the size: the legend names paths."""
    labels = []
    for cluster in clusters:
        shares = sorted(100 * row.compression for row in cluster if row.path)
        saved = [f"{share:.0f}" for share in shares]
        size = f"−{' to '.join(dict.fromkeys((saved[0], saved[-1])))} %" if saved else ""
        name = cluster[0].name if len(cluster) == 1 or not cluster[0].path else ""
        middle = sum(sizes.share(row.params) for row in cluster) / len(cluster)
        labels.append((sizes.at(middle) / scale, ", ".join(filter(None, (name, size)))))
    return labels


def _handles(looks: Dict[str, Look]) -> List[Any]:
    from matplotlib.lines import Line2D

    grey: Look = {"color": "#777777", "linestyle": ""}
    handles = [Line2D([], [], **TEACHER, linestyle=":", markersize=12, label="first teacher")]
    handles += [
        Line2D([], [], **look, linestyle="-", linewidth=1, markersize=7, label=spoken(name))
        for name, look in looks.items()
    ]
    if looks:
        bar: Look = {"marker": "|", "markersize": 12, "markeredgewidth": 1.5}
        full: Look = {"marker": "o", "markersize": 7}
        empty = {**full, "markerfacecolor": "white"}
        handles += [
            Line2D([], [], **grey, **bar, label="95 % interval of the difference to the teacher"),
            Line2D([], [], **grey, **full, label="significantly different from the teacher"),
            Line2D([], [], **grey, **empty, label="not significantly different"),
        ]
    return handles
