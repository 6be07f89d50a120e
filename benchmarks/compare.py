"""Is one commit slower than another? Both run `personaplug benchmark` in turns on this machine.

    python benchmarks/compare.py OLD [NEW] [--parts overhead batch observing] [--times 3] [--rounds 3]

Each commit is checked out beside the other for the time of the comparison (git worktree) and run with the libraries
installed here, OLD and NEW in turns. A part's ratios are units of the machine already, so that what is compared is
NEW's ratio over OLD's; the median over the turns is shown with their range. Where every turn is worse by more than
10% in the direction of the goal, it counts as a regression, and the exit status is 1. By hand, not in CI: machines
there are too noisy. NEW is by default HEAD; both need `personaplug benchmark`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
SLACK = 1.1
RUN = "from personaplug.cli import main; main()"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", help="a commit, branch or tag")
    parser.add_argument("new", nargs="?", default="HEAD")
    parser.add_argument("--parts", nargs="*", default=[], help="as of personaplug benchmark; all by default")
    parser.add_argument("--times", type=int, default=3, help="turns of each commit")
    parser.add_argument("--rounds", type=int, default=3, help="of each turn")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="personaplug-compare-") as folder:
        places = {name: Path(folder) / name for name in ("old", "new")}
        try:
            for name, place in places.items():
                git("worktree", "add", "--detach", str(place), getattr(args, name))
            turns = [
                {name: measured(place, args.parts, args.rounds) for name, place in places.items()}
                for _ in range(args.times)
            ]
        finally:
            for place in places.values():
                subprocess.run(["git", "-C", str(ROOT), "worktree", "remove", "--force", str(place)], check=False)
    lines = compared(turns)
    print(*lines, sep="\n")
    sys.exit(any(line.startswith("slower") for line in lines))


def git(*words: str) -> None:
    done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"error: git {' '.join(words[:2])}: {done.stderr.strip().splitlines()[-1]}")


def measured(place: Path, parts: Sequence[str], rounds: int) -> dict[str, tuple[float, str]]:
    """Ratio's id -> its value and goal, as one checkout measures them."""
    with tempfile.TemporaryDirectory() as results:
        command = [sys.executable, "-c", RUN, "benchmark", *parts, "--rounds", str(rounds), "--results", results]
        environment = {**os.environ, "PYTHONPATH": str(place / "src")}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"error: {place.name} commit: {(done.stderr.strip() or 'failed').splitlines()[-1]}")
        figures = json.loads((Path(results) / "speed.json").read_text("utf-8"))
    return {row["id"]: (row["value"], row["goal"]) for part in figures.values() for row in part["rows"]}


def compared(turns: Sequence[dict[str, dict[str, tuple[float, str]]]]) -> list[str]:
    """A line for each ratio that both commits have."""
    lines = []
    for name, (_, goal) in turns[0]["old"].items():
        if not all(name in turn["new"] and turn["old"][name][0] for turn in turns):
            continue
        changes = [turn["new"][name][0] / turn["old"][name][0] for turn in turns]
        more_is_better = goal.startswith(">")
        worse = [1 / max(c, 1e-9) if more_is_better else c for c in changes]
        verdict = "slower" if min(worse) > SLACK else "faster" if max(worse) < 1 / SLACK else "same"
        spread = f"{min(changes):.2f} to {max(changes):.2f}"
        lines.append(f"{verdict:7} {name:28} new / old {statistics.median(changes):6.3f}  ({spread}), goal {goal}")
    return lines


if __name__ == "__main__":
    main()
