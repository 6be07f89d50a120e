"""The report's charts: SVG by Matplotlib in the page's own colours and fonts, so that they follow light and dark.

Matplotlib knows no CSS variables: it draws in the placeholder colours of `_COLOURS`, which are replaced afterwards.
"""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from personaplug.bench.compare import Band, Gain
from personaplug.bench.report.board import LEVEL, Point
from personaplug.pipeline.run import Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Name of the CSS variable -> placeholder that nothing else draws in.
_COLOURS = {
    "ink": "#a10001", "soft": "#a10002", "line": "#a10003", "main": "#a10004", "rival": "#a10005",
    "good": "#a10006", "bad": "#a10007",
}  # fmt: skip
_STYLE: Mapping[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a method's label may have a $ in it
    "font.size": 10,
    "axes.edgecolor": _COLOURS["line"],
    "axes.labelcolor": _COLOURS["soft"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": _COLOURS["ink"],
    "xtick.color": _COLOURS["line"],
    "ytick.color": _COLOURS["line"],
    "xtick.labelcolor": _COLOURS["soft"],
    "ytick.labelcolor": _COLOURS["soft"],
    "grid.color": _COLOURS["line"],
    "grid.linewidth": 0.6,
    "legend.frameon": False,
}


def gains_chart(gains: Sequence[Gain], unit: str) -> str:
    """A dot with its interval for each row that the measured method is compared with; right of zero is better."""
    with _drawing("gains", height=0.9 + 0.5 * len(gains)) as drawing:
        axes = drawing.axes
        for y, gain in enumerate(reversed(gains)):
            interval = gain.interval
            colour = _COLOURS["main"] if interval.low > 0 else _COLOURS["soft"]
            axes.plot(
                [interval.low, interval.high], [y, y], color=colour, linewidth=3, solid_capstyle="round", alpha=0.45
            )
            axes.plot([interval.mean], [y], "o", color=colour, markersize=7)
            axes.annotate(
                f"{interval.mean:+.3f}", (interval.mean, y), (0, 8), textcoords="offset points", ha="center",
                fontsize=9, color=_COLOURS["ink"],
            )  # fmt: skip
        axes.axvline(0, color=_COLOURS["soft"], linewidth=1, linestyle=(0, (3, 3)))
        axes.set_yticks(range(len(gains)), [f"over {g.other}" for g in reversed(gains)])
        axes.set_ylim(-0.6, len(gains) - 0.3)
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0, labelcolor=_COLOURS["ink"])
        axes.grid(axis="x")
        axes.set_xlabel(unit)
        return drawing.svg()


def curves_chart(curves: Mapping[str, Sequence[Curve]], main: str) -> str:
    """Training loss by step, the mean over seeds; the measured method stands out."""
    with _drawing("curves") as drawing:
        axes = drawing.axes
        for name, own in curves.items():
            shortest = min(len(c.curve) for c in own)
            if not shortest:
                continue
            steps = [step for step, _ in own[0].curve[:shortest]]
            losses = np.mean([[loss for _, loss in c.curve[:shortest]] for c in own], axis=0)
            colour = _COLOURS["main"] if name == main else _COLOURS["rival"]
            axes.plot(steps, losses, color=colour, linewidth=2, marker="o", markersize=3)
            axes.annotate(
                name, (steps[-1], float(losses[-1])), (6, 0), textcoords="offset points", va="center", color=colour
            )
        axes.margins(x=0.02)
        axes.grid(axis="y")
        axes.set_xlabel("step")
        axes.set_ylabel("training loss, nats a token")
        return drawing.svg()


def bands_chart(bands: Sequence[Band], unit: str, name: str = "bands", height: float = 2.9) -> str:
    """The gain of requests with short, middling and long histories; `name` is unlike any other chart's on the page."""
    with _drawing(name, height) as drawing:
        axes = drawing.axes
        for x, band in enumerate(bands):
            interval = band.interval
            axes.plot([x, x], [interval.low, interval.high], color=_COLOURS["main"], linewidth=3, alpha=0.45)
            axes.plot([x], [interval.mean], "o", color=_COLOURS["main"], markersize=7)
            axes.annotate(f"{interval.mean:+.3f}", (x, interval.mean), (9, 0), textcoords="offset points", va="center")
        axes.axhline(0, color=_COLOURS["soft"], linewidth=1, linestyle=(0, (3, 3)))
        names = [f"{b.low}\u2013{b.high}" if b.high > b.low else f"{b.low}" for b in bands]
        axes.set_xticks(range(len(bands)), [f"{n}\n{b.examples} requests" for n, b in zip(names, bands, strict=True)])
        axes.set_xlim(-0.5, len(bands) - 0.4)
        axes.grid(axis="y")
        axes.set_xlabel("behaviours before the request")
        axes.set_ylabel(unit)
        return drawing.svg()


def users_chart(gains: Sequence[float], unit: str, name: str = "users") -> str:
    """How many users gain how much; `name` is unlike any other chart's on the page."""
    with _drawing(name) as drawing:
        axes = drawing.axes
        values = np.asarray(gains)
        # The outermost percent would squeeze everybody else into two bars: it is counted in the outer bars.
        low, high = np.percentile(values, (1, 99))
        reach = max(abs(float(low)), abs(float(high)), 1e-6)
        edges = np.linspace(-reach, reach, 2 * min(16, max(3, len(values) // 6)) + 1)  # zero is an edge
        counts, _ = np.histogram(np.clip(values, -reach, reach), edges)
        for left, right, count in zip(edges, edges[1:], counts, strict=False):
            colour = _COLOURS["main"] if left >= -1e-12 else _COLOURS["soft"]
            axes.bar(left, count, width=(right - left) * 0.92, align="edge", color=colour, alpha=0.85)
        axes.axvline(0, color=_COLOURS["soft"], linewidth=1, linestyle=(0, (3, 3)))
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        axes.set_xlabel(unit)
        axes.set_ylabel("users")
        return drawing.svg()


@dataclass(frozen=True, slots=True)
class Spot:
    """A method on a chart of quality against cost.

    Attributes:
        label: the method's.
        cost: to the right is dearer.
        quality: its score.
        stored: bytes a user, the dot's size.
        tone: `main`, `rival` or `soft`.
    """

    label: str
    cost: float
    quality: float
    stored: float
    tone: str


def forest_chart(name: str, methods: Mapping[str, Mapping[str, Gain]], over: Mapping[str, str], unit: str) -> str:
    """Every method's gains with their intervals, a panel for each kind of gain; full dots hold after correction.

    Args:
        name: unlike any other chart's on the page.
        methods: label -> kind -> gain, from top to bottom.
        over: kind -> what the gains are over, in words; from left to right.
        unit: of the gains.
    """
    with _drawing(name, height=1.0 + 0.25 * len(methods), width=10.8, panels=len(over)) as drawing:
        for axes, (kind, words) in zip(drawing.panels, over.items(), strict=True):
            axes.axvline(0, color=_COLOURS["soft"], linewidth=1, linestyle=(0, (3, 3)))
            for y, gains in enumerate(methods.values()):
                if kind in gains:
                    _forest_dot(axes, -y, gains[kind])
            axes.set_title(words, fontsize=10, loc="left", color=_COLOURS["ink"])
            axes.spines["left"].set_visible(False)
            axes.tick_params(axis="y", length=0, labelcolor=_COLOURS["ink"])
            axes.grid(axis="x")
            axes.grid(axis="y", linewidth=0.3)
            axes.set_axisbelow(True)
            axes.set_ylim(0.7 - len(methods), 0.7)
            axes.set_xlabel(unit)
            axes.locator_params(axis="x", nbins=5)
        drawing.axes.set_yticks([-y for y in range(len(methods))], list(methods))
        return drawing.svg()


def _forest_dot(axes: Axes, y: float, gain: Gain) -> None:
    interval, holds = gain.interval, gain.adjusted < LEVEL
    colour = _COLOURS[("good" if interval.mean > 0 else "bad") if holds else "soft"]
    axes.plot([interval.low, interval.high], [y, y], color=colour, linewidth=2.5, solid_capstyle="round", alpha=0.5)
    axes.plot([interval.mean], [y], "o", color=colour, markersize=5.5, fillstyle="full" if holds else "none")
    axes.annotate(
        f"{interval.mean:+.3f}", (1.0, y), (4, 0), xycoords=axes.get_yaxis_transform(), textcoords="offset points",
        va="center", fontsize=8.5, color=colour,
    )  # fmt: skip


def cost_chart(name: str, spots: Sequence[Spot], cost: str, quality: str, lower: bool) -> str:
    """Quality against a cost, better always up; a line joins the methods that nothing cheaper beats.

    Args:
        name: unlike any other chart's on the page.
        spots: the methods.
        cost: in words.
        quality: in words.
        lower: whether a lower score is better.
    """
    with _drawing(name, height=3.7) as drawing:
        axes = drawing.axes
        front: list[Spot] = []
        for spot in sorted(spots, key=lambda s: (s.cost, s.quality if lower else -s.quality)):
            if not front or (spot.quality < front[-1].quality if lower else spot.quality > front[-1].quality):
                front.append(spot)
        axes.step(
            [s.cost for s in front], [s.quality for s in front], where="post", color=_COLOURS["line"], linewidth=1.2,
            zorder=1,
        )  # fmt: skip
        for spot in spots:
            area = 26 + 16 * np.log2(1 + spot.stored / 1024)
            axes.scatter(spot.cost, spot.quality, s=area, color=_COLOURS[spot.tone], alpha=0.85, linewidths=0, zorder=2)
        if min(s.cost for s in spots) > 0 and max(s.cost for s in spots) > 6 * min(s.cost for s in spots):
            _log_axis(axes)
        axes.margins(x=0.12, y=0.14)
        axes.grid(visible=True)
        axes.set_axisbelow(True)
        if lower:
            axes.invert_yaxis()
        axes.set_xlabel(cost)
        axes.set_ylabel(quality)
        _label_spots(drawing, spots, front)
        return drawing.svg()


def cold_chart(name: str, curves: Mapping[str, Sequence[Point]], main: str, unit: str, zero: bool) -> str:
    """How a method's score grows with the history that it is given, with bands of 95%.

    Args:
        name: unlike any other chart's on the page.
        curves: method -> its points.
        main: the method that stands out.
        unit: of the vertical axis.
        zero: whether the values are gains over something that stands at zero.
    """
    lengths = sorted({p.behaviors for points in curves.values() for p in points if p.behaviors is not None})
    at: dict[int | None, float] = {n: float(np.log2(n + 1)) for n in lengths}
    at[None] = max(at.values(), default=0.0) + 1.0
    tones = [("rival", "-"), ("good", "-"), ("bad", "-"), ("soft", "-"), ("ink", "--"), ("rival", "--"), ("good", "--")]
    with _drawing(name, height=3.4) as drawing:
        axes = drawing.axes
        ends = []
        others = [m for m in curves if m != main]
        for method, points in curves.items():
            tone, dash = ("main", "-") if method == main else tones[others.index(method) % len(tones)]
            x, intervals = [at[p.behaviors] for p in points], [p.interval for p in points]
            axes.fill_between(
                x,
                [i.low for i in intervals],
                [i.high for i in intervals],
                color=_COLOURS[tone],
                alpha=0.16 if method == main else 0.07,
                linewidth=0,
            )
            axes.plot(
                x, [i.mean for i in intervals], dash, color=_COLOURS[tone], marker="o", markersize=3.5,
                linewidth=2.4 if method == main else 1.5,
            )  # fmt: skip
            ends.append((method, intervals[-1].mean, _COLOURS[tone]))
        if zero:
            axes.axhline(0, color=_COLOURS["soft"], linewidth=1, linestyle=(0, (3, 3)))
        axes.set_xticks(list(at.values()), ["all" if n is None else str(n) for n in at])
        axes.grid(axis="y")
        axes.set_xlabel("newest behaviours that the method may see")
        axes.set_ylabel(unit)
        _label_ends(drawing, at[None], ends)
        return drawing.svg()


def _log_axis(axes: Axes) -> None:
    """Costs that differ by much: a logarithmic axis with plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _label_spots(drawing: _drawing, spots: Sequence[Spot], front: Sequence[Spot]) -> None:
    """A label beside each dot: where the nearest place is taken, farther off with a thin line to the dot."""
    places = drawing.points([(s.cost, s.quality) for s in spots])  # [spots, 2] in points
    left, bottom, right, top = drawing.box()
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in places]
    corners = drawing.points([(s.cost, s.quality) for s in front])
    taken += [(x, y - 1, after, y + 1) for (x, y), (after, _) in itertools.pairwise(corners)]  # the line's level parts
    for spot, (x, y) in sorted(zip(spots, places, strict=True), key=lambda item: -item[1][1]):
        width, height = 5.2 * len(spot.label) + 2, 10.0
        boxes = []
        for distance, angle in itertools.product(
            (8, 15, 23, 32, 42, 54, 68), (0, 30, 330, 180, 60, 300, 150, 210, 90, 270, 120, 240)
        ):
            across, up = np.cos(np.radians(angle)), np.sin(np.radians(angle))
            middle = x + distance * across + width / 2 * np.sign(round(across, 3)), y + distance * up
            low = middle[0] - width / 2, middle[1] - height / 2
            box = (*low, low[0] + width, low[1] + height)
            inside = box[0] >= left and box[1] >= bottom and box[2] <= right and box[3] <= top
            boxes.append((sum(_overlap(box, other) for other in taken) + 1e6 * (not inside), distance, box))
        _, distance, box = min(boxes, key=lambda candidate: candidate[:2])
        taken.append(box)
        line = {"arrowstyle": "-", "color": _COLOURS["soft"], "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3}
        drawing.axes.annotate(
            spot.label, (spot.cost, spot.quality), ((box[0] + box[2]) / 2 - x, (box[1] + box[3]) / 2 - y),
            textcoords="offset points", ha="center", va="center", fontsize=8.5,
            color=_COLOURS["main" if spot.tone == "main" else "ink"], arrowprops=line if distance > 8 else None,
        ).set_in_layout(False)  # fmt: skip


def _label_ends(drawing: _drawing, x: float, ends: Sequence[tuple[str, float, str]]) -> None:
    """Names at the right ends of lines, moved where the lines end close together."""
    heights = [y for _, y in drawing.points([(x, value) for _, value, _ in ends])]
    last = -np.inf
    for i in sorted(range(len(ends)), key=heights.__getitem__):
        label, value, colour = ends[i]
        last = max(heights[i], last + 11)
        drawing.axes.annotate(
            label, (x, value), (8, last - heights[i]), textcoords="offset points", va="center", fontsize=9, color=colour
        )


def _overlap(a: Sequence[float], b: Sequence[float]) -> float:
    """The common area of two boxes (left, bottom, right, top)."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


class _drawing:  # noqa: N801 - used as a function: `with _drawing(...) as drawing`
    """One figure in the report's style; neither pyplot nor a screen is involved."""

    def __init__(self, name: str, height: float = 2.9, width: float = 5.4, panels: int = 1) -> None:
        import matplotlib as mpl

        # The salt makes the ids of two charts on one page differ, and makes the same chart the same bytes.
        self._context = mpl.rc_context({**_STYLE, "svg.hashsalt": name})
        self._name = name
        self._size = (width, height)
        self._count = panels

    def __enter__(self) -> _drawing:
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine

        self._context.__enter__()
        self.figure = Figure(
            figsize=self._size, layout=ConstrainedLayoutEngine(w_pad=None if self._count == 1 else 0.12)
        )
        self.panels: list[Axes] = list(self.figure.subplots(1, self._count, sharey=True, squeeze=False)[0])
        self.axes = self.panels[0]
        return self

    def __exit__(self, *error: object) -> None:
        self._context.__exit__(*error)  # type: ignore[arg-type]

    def points(self, values: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        """Where values stand on the finished figure, in points from its lower left."""
        self.figure.draw_without_rendering()  # settles layout and limits
        placed = self.axes.transData.transform(values) * 72 / self.figure.dpi
        return [(float(x), float(y)) for x, y in placed]

    def box(self) -> tuple[float, float, float, float]:
        """The axes' left, bottom, right and top in points."""
        extent = self.axes.get_window_extent()
        left, bottom, right, top = (float(edge) * 72 / self.figure.dpi for edge in (*extent.min, *extent.max))
        return left, bottom, right, top

    def svg(self) -> str:
        """The figure as an `<svg>` element for a page."""
        raw = io.StringIO()
        self.figure.savefig(raw, format="svg", transparent=True, metadata={"Date": None})
        text = raw.getvalue()
        text = text[text.index("<svg") :]
        text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
        # An element inside HTML needs no namespaces, and fixed sizes would keep it from following the page's width.
        text = re.sub(r'\s(xmlns(:\w+)?|version|width|height)="[^"]*"', "", text, count=5)
        text = re.sub(r'\sid="[a-zA-Z]+[\w.]*_\d+"', "", text)
        # The page's own font: an inline one would win over it.
        text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", text)
        text = re.sub(r"; font-family: [^;\"]*", "", text)
        for name, placeholder in _COLOURS.items():
            text = text.replace(placeholder, f"var(--{name})")
        return text.replace("xlink:href", "href").replace("<svg", f'<svg role="img" aria-label="{self._name}"', 1)
