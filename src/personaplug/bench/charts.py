"""The report's charts: SVG by Matplotlib in the page's own colours and fonts, so that they follow light and dark.

Matplotlib knows no CSS variables: it draws in the placeholder colours of `_COLOURS`, which are replaced afterwards.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from personaplug.bench.compare import Band, Gain
from personaplug.bench.results import Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Name of the CSS variable -> placeholder that nothing else draws in.
_COLOURS = {"ink": "#a10001", "soft": "#a10002", "line": "#a10003", "main": "#a10004", "rival": "#a10005"}
_STYLE: Mapping[str, Any] = {
    "svg.fonttype": "none",
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
            found = gain.interval
            colour = _COLOURS["main"] if found.low > 0 else _COLOURS["soft"]
            axes.plot([found.low, found.high], [y, y], color=colour, linewidth=3, solid_capstyle="round", alpha=0.45)
            axes.plot([found.mean], [y], "o", color=colour, markersize=7)
            axes.annotate(
                f"{found.mean:+.3f}", (found.mean, y), (0, 8), textcoords="offset points", ha="center",
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
        for name, found in curves.items():
            shortest = min(len(c.curve) for c in found)
            if not shortest:
                continue
            steps = [step for step, _ in found[0].curve[:shortest]]
            losses = np.mean([[loss for _, loss in c.curve[:shortest]] for c in found], axis=0)
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


def bands_chart(bands: Sequence[Band], unit: str) -> str:
    """The gain of requests with short, middling and long histories."""
    with _drawing("bands") as drawing:
        axes = drawing.axes
        for x, band in enumerate(bands):
            found = band.interval
            axes.plot([x, x], [found.low, found.high], color=_COLOURS["main"], linewidth=3, alpha=0.45)
            axes.plot([x], [found.mean], "o", color=_COLOURS["main"], markersize=7)
            axes.annotate(f"{found.mean:+.3f}", (x, found.mean), (9, 0), textcoords="offset points", va="center")
        axes.axhline(0, color=_COLOURS["soft"], linewidth=1, linestyle=(0, (3, 3)))
        names = [f"{b.low}\u2013{b.high}" if b.high > b.low else f"{b.low}" for b in bands]
        axes.set_xticks(range(len(bands)), [f"{n}\n{b.examples} requests" for n, b in zip(names, bands, strict=True)])
        axes.set_xlim(-0.5, len(bands) - 0.4)
        axes.grid(axis="y")
        axes.set_xlabel("behaviours before the request")
        axes.set_ylabel(unit)
        return drawing.svg()


def users_chart(gains: Sequence[float], unit: str) -> str:
    """How many users gain how much."""
    with _drawing("users") as drawing:
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


class _drawing:  # noqa: N801 - used as a function: `with _drawing(...) as drawing`
    """One figure in the report's style; neither pyplot nor a screen is involved."""

    def __init__(self, name: str, height: float = 2.9) -> None:
        import matplotlib as mpl

        # The salt keeps the ids of two charts on one page apart, and makes the same chart the same bytes.
        self._context = mpl.rc_context({**_STYLE, "svg.hashsalt": name})
        self._name = name
        self._height = height

    def __enter__(self) -> _drawing:
        from matplotlib.figure import Figure

        self._context.__enter__()
        self.figure = Figure(figsize=(5.4, self._height), layout="constrained")
        self.axes: Axes = self.figure.add_subplot()
        return self

    def __exit__(self, *error: object) -> None:
        self._context.__exit__(*error)  # type: ignore[arg-type]

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
        text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", text)
        for name, placeholder in _COLOURS.items():
            text = text.replace(placeholder, f"var(--{name})")
        return text.replace("xlink:href", "href").replace("<svg", f'<svg role="img" aria-label="{self._name}"', 1)
