"""The README's chart: how often each method is right about people's own choices, from results/compare.

    python docs/chart.py [results/compare] [docs/results.png]

A bar is the mean over seeds and requests, its line the 95% bootstrap interval over users.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from personaplug.bench import results
from personaplug.metrics.bootstrap import Interval, bootstrap

ROOT = Path(__file__).parents[1]
BARS = (  # method, control, what the reader sees, colour
    ("none", "", "the bare model", "#c9ccd1"),
    ("task_prompt", "", "trained on the task, knows no user", "#9aa0a8"),
    ("plug", "shuffled users", "plug, with somebody else's history", "#d8b46a"),
    ("plug", "", "plug", "#2f6fde"),
    ("prior", "", "the user's own label counts, no model", "#7fa88b"),
    ("logistic", "", "logistic regression, no language model", "#4c8c63"),
    ("fusion", "", "plug and logistic together", "#123f8f"),
)
TASKS = {
    "hate": ("Is this tweet hateful, to this annotator?", "accuracy"),
    "movie_like": ("Will this viewer like the movie?", "accuracy"),
    "instruments_rating": ("How many stars did they give?", "accuracy"),
    "studemo": ("Which emotions does it evoke in them?", "any_match"),
}


def score(folder: Path, method: str, control: str, metric: str) -> Interval | None:
    """The metric's mean over seeds and requests, or None where it was not measured."""
    values: list[float] = []
    users: list[str] = []
    for file in sorted(folder.glob("*-seed*.json")):
        for row in results.load(file).rows:
            if (row.method, row.control) == (method, control) and metric in row.values:
                values += row.values[metric]
                users += [row.users[i] for i in row.answered]
    return bootstrap(values, groups=users) if values else None


def main() -> None:
    """Draw the chart."""
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "results" / "compare"
    target = Path(sys.argv[2]) if len(sys.argv) > 2 else ROOT / "docs" / "results.png"
    found = {
        task: [(bar, score(source / task, *bar[:2], metric)) for bar in BARS] for task, (_, metric) in TASKS.items()
    }
    found = {task: [b for b in bars if b[1]] for task, bars in found.items()}
    found = {task: bars for task, bars in found.items() if bars}
    figure = Figure(figsize=(10, 0.9 + 0.38 * max(map(len, found.values())) * ((len(found) + 1) // 2)), dpi=150)
    for place, (task, bars) in enumerate(found.items()):
        axes = figure.add_subplot((len(found) + 1) // 2, min(2, len(found)), place + 1)
        for y, ((_, _, _, colour), interval) in enumerate(reversed(bars)):
            assert interval is not None
            axes.barh(y, interval.mean, color=colour, height=0.72)
            axes.plot([interval.low, interval.high], [y, y], color="#333", linewidth=1)
            axes.text(interval.high + 0.012, y, f"{interval.mean:.0%}", va="center", fontsize=8)
        axes.set_title(TASKS[task][0], fontsize=9.5, loc="left")
        axes.set_xlim(0, 1)
        axes.set_xticks(np.arange(0, 1.01, 0.25), [f"{x:.0%}" for x in np.arange(0, 1.01, 0.25)], fontsize=7)
        axes.set_yticks(range(len(bars)), [bar[2] for bar, _ in reversed(bars)], fontsize=7.5)
        axes.tick_params(axis="y", length=0)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
    figure.tight_layout()
    figure.savefig(target)


if __name__ == "__main__":
    main()
