"""What learning from likes and dislikes is worth, by how many of them there are: tables and claims from result rows.

    python benchmarks/preferences.py [--results results/personalllm] [--record]

Reads what `personaplug bench experiments/personalllm/methods.toml --seeds 3` and the same of against_icl.toml left,
seeds pooled. A table of every method: the mean reward of what it answers, with 95% bootstraps over users, for histories
of 1 to 30 pairs and for those of shuffled users, and the preference plug's paired gains. The same of the best for all
unseen users, with medians. A method measured with fewer seeds draws nothing in training.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

from personaplug.bench import compare, results
from personaplug.bench.claims import Claim, record
from personaplug.bench.controls import NEWEST
from personaplug.bench.measure import Row

HERE = Path(__file__).parent
OURS = "preference_plug"
SIZES = {n: f"{NEWEST}{n}" for n in (1, 3, 5, 10)} | {30: ""}  # pairs -> control
SHUFFLED = "shuffled users"
METRIC = "user_reward"
Key = tuple[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=HERE.parent / "results" / "personalllm")
    parser.add_argument("--record", action="store_true", help="write the claims")
    args = parser.parse_args()
    rows, best = pooled(args.results, "methods"), pooled(args.results, "against_icl")
    print(scores(rows), gains(rows), scores(best), medians(best), gains(best), sep="\n\n")
    if args.record:
        record(HERE, *claims(rows, best))


def pooled(folder: Path, experiment: str) -> dict[Key, Row]:
    """Rows by method and control, each the mean over its seeds."""
    by_method: dict[Key, list[Row]] = {}
    for path in sorted(folder.glob(f"{experiment}-seed*.json")):
        for row in results.load(path).rows:
            by_method.setdefault((row.method, row.control), []).append(row)
    return {key: compare.pool(seeds) for key, seeds in by_method.items()}


def scores(rows: dict[Key, Row]) -> str:
    """Markdown: each method's reward by history, and what its prompts cost."""
    lines = ["| method | prompt tokens | " + " | ".join(_pairs(n) for n in SIZES) + " | shuffled users |"]
    lines.append("|---" * (len(SIZES) + 3) + "|")
    for method in dict.fromkeys(method for method, _ in rows):
        own = rows[method, ""]
        cells = [_cell(rows.get((method, control))) for control in [*SIZES.values(), SHUFFLED]]
        lines.append(f"| {method} | {own.prompt_tokens + own.prefix_tokens:.0f} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _pairs(n: int) -> str:
    return "1 pair" if n == 1 else f"{n} pairs"


def _cell(row: Row | None) -> str:
    if row is None:
        return "–"
    interval = compare.interval(row, METRIC)
    return f"{interval.mean:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def medians(rows: dict[Key, Row]) -> str:
    """Markdown: medians over users with the whole history, and how often the answer beats the reference writer's."""
    lines = ["| method | median reward | beats the reference | beats the best of eight |", "|---" * 4 + "|"]
    for (method, control), row in rows.items():
        if not control:
            middle, won = statistics.median(row.values[METRIC]), row.scores
            lines.append(f"| {method} | {middle:.2f} | {won['win_reference']:.0%} | {won['win_best']:.0%} |")
    return "\n".join(lines)


def gains(rows: dict[Key, Row]) -> str:
    """Markdown: the preference plug's gain over each other method with the same history, or with the whole one."""
    lines = ["| over | " + " | ".join(_pairs(n) for n in SIZES) + " |", "|---" * (len(SIZES) + 1) + "|"]
    for method in dict.fromkeys(method for method, _ in rows if method != OURS):
        cells = []
        for control in SIZES.values():
            other = rows.get((method, control)) or (rows[method, ""] if method == "none" else None)
            cells.append(_gain(rows.get((OURS, control)), other))
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    if (OURS, SHUFFLED) in rows:
        cells = ["–"] * (len(SIZES) - 1) + [_gain(rows[OURS, ""], rows[OURS, SHUFFLED])]
        lines.append("| itself, shuffled users | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _gain(row: Row | None, other: Row | None) -> str:
    if row is None or other is None:
        return "–"
    interval = compare.gain(row, other, METRIC).interval
    return f"{interval.mean:+.2f} [{interval.low:+.2f}, {interval.high:+.2f}]"


def claims(rows: dict[Key, Row], best: dict[Key, Row]) -> list[Claim]:
    """What the preference plug shall be better than, for histories of 5 pairs and more."""
    made = []
    for pairs in (5, 10, 30):
        row = best[OURS, SIZES[pairs]]
        shots = [r for (method, control), r in best.items() if method.startswith("icl") and control == SIZES[pairs]]
        icl = max(shots, key=lambda r: r.scores[METRIC])
        rivals = {"none": (row, best["none", ""]), "best-icl": (row, icl)}
        if pairs == 30:
            some = rows[OURS, ""]  # of the users whom every method was measured with
            rivals |= {"shuffled-users": (some, rows[OURS, SHUFFLED]), "lowrank": (some, rows["lowrank", ""])}
        for name, (own, other) in rivals.items():
            more = compare.gain(own, other, METRIC)
            words = (
                f"gain in mean reward of the preference plug with {pairs} pairs over {other.title}, {more.users} users"
            )
            made.append(
                Claim.now(f"preferences.{pairs}-pairs-over-{name}", words, more.interval, "> 0", more.interval.low > 0)
            )
    return made


if __name__ == "__main__":
    main()
