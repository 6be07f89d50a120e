"""Charts of how simulated users differ, in the report's style."""

from __future__ import annotations

from collections.abc import Sequence

from personaplug.bench.report.charts import _COLOURS, _drawing
from personaplug.tasks.simulate.diversity import THRESHOLDS, Diversity


def disagreement_chart(measured: Sequence[Diversity]) -> str:
    """How often two users differ on the best answer, and how many rewards a user rests on, by alpha."""
    with _drawing("disagreement", width=5.4) as drawing:
        axes = drawing.axes
        at = list(range(len(measured)))
        axes.plot(at, [100 * d.disagreement for d in measured], color=_COLOURS["main"], linewidth=2.4, marker="o")
        for x, d in zip(at, measured, strict=True):
            axes.annotate(
                f"{d.effective_rewards:.1f}", (x, 100 * d.disagreement), (0, 8), textcoords="offset points",
                ha="center", fontsize=9, color=_COLOURS["soft"],
            )  # fmt: skip
        axes.set_xticks(at, [f"{d.alpha:g}" for d in measured])
        axes.set_ylim(0, 105)
        axes.grid(axis="y")
        axes.set_xlabel("alpha; above each dot: rewards that a user rests on")
        axes.set_ylabel("% of pairs of users who differ")
        return drawing.svg()


def majority_chart(measured: Sequence[Diversity]) -> str:
    """The share of prompts whose favourite answer gets at most so much of the votes, a line an alpha."""
    tones = ["main", "rival", "good", "bad", "soft", "ink"]
    with _drawing("majority", height=3.4, width=5.4) as drawing:
        axes = drawing.axes
        for i, d in enumerate(measured):
            colour = _COLOURS[tones[i % len(tones)]]
            axes.plot(
                [100 * t for t in THRESHOLDS], [100 * m for m in d.majority], color=colour, linewidth=2,
                linestyle="-" if i < len(tones) else "--", label=f"alpha {d.alpha:g}",
            )  # fmt: skip
        axes.legend(loc="upper left", fontsize=9)
        axes.set_xlim(0, 100)
        axes.grid(axis="both")
        axes.set_xlabel("% of users' votes for the favourite answer, at most")
        axes.set_ylabel("% of prompts")
        return drawing.svg()


def correlations_chart(names: Sequence[str], correlations: Sequence[Sequence[float]]) -> str:
    """Correlations of the rewards: the larger a dot the closer; full is positive, hollow negative."""
    with _drawing("correlations", height=1.2 + 0.3 * len(names), width=5.4) as drawing:
        axes = drawing.axes
        for y, row in enumerate(correlations):
            for x, value in enumerate(row[:y]):
                tone = _COLOURS["main" if value > 0 else "rival"]
                axes.scatter(
                    x, -y, s=560 * abs(value), facecolors=tone if value > 0 else "none", edgecolors=tone, alpha=0.85
                )
                if abs(value) >= 0.3:
                    axes.annotate(f"{value:+.1f}", (x, -y), ha="center", va="center", fontsize=7, color=_COLOURS["ink"])
        axes.set_xticks(range(len(names) - 1), names[:-1], rotation=40, ha="right")
        axes.set_yticks([-y for y in range(1, len(names))], names[1:])
        axes.set_xlim(-0.6, max(len(names) - 1, 1) - 0.4)
        axes.set_ylim(-len(names) + 0.4, -0.4)
        return drawing.svg()
