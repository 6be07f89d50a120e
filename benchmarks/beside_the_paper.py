r"""Is the default plug better than the published one, and does it know people it has not met? Read from results/.

    personaplug bench experiments/TASK/compare.toml --seeds 3 --results results/compare   # measures, per task
    personaplug bench experiments/TASK/unseen.toml --seeds 3 --results results/unseen     # new users, per task
    personaplug bench experiments/TASK/compare.toml --methods plug --set encoder.name=static --seeds 3 \
        --results results/static
    python benchmarks/beside_the_paper.py                                                 # compares, in seconds

A task's claim is the paired gain of `plug` over another row in nats a token of what people really wrote or chose, over
the seeds that both have, with its 95% bootstrap interval, seeds pooled and users resampled. The relative gain of a
method is its share of the task prompt's loss that it takes away. With unseen users the same gains are compared with
those of people whose earlier requests were trained on: how much of a gain is left. Of text, what counts is the plug
with gated text over the best of the methods that show the model as many behaviours as text, trained soft tokens or not.
Of the static encoder, what counts is the loss that it costs.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from personaplug.bench import results
from personaplug.bench.claims import Claim, record
from personaplug.bench.compare import Gain, gain, pool
from personaplug.bench.measure import NLL, Row
from personaplug.core.files import write_json

PLUG, CONTROL = "plug", "task_prompt"
OTHERS = {
    "pplug": ("pplug", ""),
    "pplug-late": ("pplug late", ""),
    "task-prompt": (CONTROL, ""),
    "shuffled-users": (PLUG, "shuffled users"),
}
GATED = "plug+recent"
TEXTS = ("task_prompt+recent", "recent", "bm25", "dense")  # two behaviours as text
SEEDS = 3  # with fewer, gains are printed and claim nothing
FACTOR = 1.5  # how many times the published one's mean relative gain is asked for
ByTask = dict[str, dict[int, dict[tuple[str, str], Row]]]  # task -> seed -> (method, control) -> row


def main() -> None:
    """Compare, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("results/compare"), help="where results are")
    parser.add_argument("--unseen", type=Path, default=Path("results/unseen"), help="where results of new users are")
    parser.add_argument("--static", type=Path, default=Path("results/static"), help="where results with static are")
    parser.add_argument("--results", type=Path, default=Path("benchmarks"), help="where the claims go")
    arguments = parser.parse_args()
    by_task = read(arguments.folder)
    if not by_task:
        raise SystemExit(f"{arguments.folder}: no results; measure with personaplug bench first")
    table = {task: compared(task, seeds, arguments.results) for task, seeds in by_task.items()}
    relative = {m: float(np.mean([row[m] for row in table.values()])) for m in (PLUG, "pplug")}
    print(f"mean relative gain over {CONTROL}: plug {relative[PLUG]:+.1%}, pplug {relative['pplug']:+.1%}")
    words = (
        f"mean relative gain of plug over the task prompt, {len(table)} tasks; that of pplug: {relative['pplug']:+.4f}"
    )
    holds = relative[PLUG] > max(FACTOR * relative["pplug"], 0.0)
    if all(sum(("pplug", "") in rows for rows in seeds.values()) >= SEEDS for seeds in by_task.values()):
        claim = Claim.now("paper-relative-gain", words, [relative[PLUG]], f">= {FACTOR} times pplug's, and > 0", holds)
        record(arguments.results, claim)
    for task, seeds in by_task.items():
        beside_text(task, seeds, arguments.results)
    for task, seeds in read(arguments.static).items():
        of_static(task, seeds, by_task[task], arguments.results)
    for task, seeds in read(arguments.unseen).items():
        left_on_unseen(task, seeds, by_task[task], arguments.results)
    write_json(arguments.results / "beside_the_paper.json", table)


def read(folder: Path) -> ByTask:
    """What was measured."""
    by_task: ByTask = {}
    for path in sorted(folder.rglob("*-seed*.json")):
        result = results.load(path)
        by_task.setdefault(result.task.name, {})[result.seed] = {(r.method, r.control): r for r in result.rows}
    return by_task


def left_on_unseen(
    task: str, unseen: dict[int, dict[tuple[str, str], Row]], seen: dict[int, Any], folder: Path
) -> None:
    """How much of each gain is left with people whom nothing was trained on, printed and recorded."""
    for name in ("task-prompt", "shuffled-users"):
        here, there = (over(seeds, OTHERS[name]) for seeds in (unseen, seen))
        interval, share = here.interval, here.interval.mean / there.interval.mean
        size = f"{here.users} unseen users, {len(unseen)} seeds"
        print(
            f"{task:20s} gain over {name:14s} {interval.mean:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}], "
            f"{share:.0%} of that with seen users ({size})"
        )
        if len(unseen) >= SEEDS:
            words = f"{task}: gain of plug over {name} in nats a token, {size}"
            claims = [
                Claim.now(f"paper-unseen-{task}-{name}", words, interval, "> 0", interval.low > 0),
                Claim.now(f"paper-unseen-{task}-{name}-left_on_unseen", f"{words}, as a share of that with seen users",
                          [share], ">= 0.8"),
            ]  # fmt: skip
            record(folder, *claims)


def over(seeds: dict[int, dict[tuple[str, str], Row]], key: tuple[str, str]) -> Gain:
    """The gain of plug over another row, seeds pooled."""
    return gain(pool([rows[PLUG, ""] for rows in seeds.values()]), pool([rows[key] for rows in seeds.values()]), NLL)


def beside_text(task: str, seeds: dict[int, dict[tuple[str, str], Row]], folder: Path) -> None:
    """The gain of the plug with gated text over the best text method, over itself with strangers, over plain text."""
    gated = [s for s, rows in sorted(seeds.items()) if (GATED, "") in rows]
    if not gated:
        return
    # A text method that is not trained has one row for all seeds.
    rows = {name: [seeds[s].get((name, ""), seeds[0].get((name, ""))) for s in gated] for name in TEXTS}
    known = {name: [r for r in each if r is not None] for name, each in rows.items() if None not in each}
    best = min(known, key=lambda name: pool(known[name]).scores[NLL])
    mine = pool([seeds[s][GATED, ""] for s in gated])
    others = {
        f"the best text method, {best}": ("text", known[best]),
        "plug": ("plug", [seeds[s][PLUG, ""] for s in gated]),
        "shuffled users": ("shuffled-users", [seeds[s][GATED, "shuffled users"] for s in gated]),
    }
    for name, (short, those) in others.items():
        gained, other = gain(mine, pool(those), NLL), pool(those)
        interval = gained.interval
        print(
            f"{task:20s} {GATED} {mine.scores[NLL]:.4f} over {name} {other.scores[NLL]:.4f}: {interval.mean:+.4f} "
            f"[{interval.low:+.4f}, {interval.high:+.4f}]  ({len(gated)} seeds)"
        )
        if len(gated) >= SEEDS:
            words = f"{task}: gain of {GATED} over {name} in nats a token, {len(gated)} seeds"
            claim = Claim.now(f"paper-{task}-gated-{short}", words, interval, "> 0", interval.low > 0)
            record(folder, claim)


def of_static(
    task: str, static: dict[int, dict[tuple[str, str], Row]], seeds: dict[int, dict[tuple[str, str], Row]], folder: Path
) -> None:
    """What the plug loses with the static encoder in place of the sentence encoder that it was distilled from."""
    both = sorted(static.keys() & seeds.keys())
    lost = gain(pool([seeds[s][PLUG, ""] for s in both]), pool([static[s][PLUG, ""] for s in both]), NLL).interval
    personal = gain(
        pool([static[s][PLUG, ""] for s in both]), pool([static[s][PLUG, "shuffled users"] for s in both]), NLL
    ).interval
    print(
        f"{task:20s} static costs {lost.mean:+.4f} [{lost.low:+.4f}, {lost.high:+.4f}]; over shuffled users "
        f"{personal.mean:+.4f} [{personal.low:+.4f}, {personal.high:+.4f}]  ({len(both)} seeds)"
    )
    if len(both) >= SEEDS:
        words = f"{task}: nats a token that plug loses with the static encoder distilled from minilm, {len(both)} seeds"
        record(folder, Claim.now(f"paper-{task}-static", words, lost, "reported", True))


def compared(task: str, seeds: dict[int, dict[tuple[str, str], Row]], folder: Path) -> dict[str, float]:
    """One task's gains, printed and recorded; returns the relative gains over the control."""
    share: dict[str, float] = {}
    for name, key in OTHERS.items():
        both = [s for s, rows in sorted(seeds.items()) if (PLUG, "") in rows and key in rows]
        mine = pool([seeds[s][PLUG, ""] for s in both])
        other = pool([seeds[s][key] for s in both])
        over = gain(mine, other, NLL)
        interval = over.interval
        print(
            f"{task:20s} plug {mine.scores[NLL]:.4f} over {name:14s} {other.scores[NLL]:.4f}: "
            f"{interval.mean:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}]  ({len(both)} seeds, {over.users} users)"
        )
        words = (
            f"{task}: gain of plug over {name} in nats a token, {len(mine.ids)} test requests of {over.users} users, "
            f"{len(both)} seeds"
        )
        if len(both) >= SEEDS:
            record(folder, Claim.now(f"paper-{task}-{name}", words, interval, "> 0", interval.low > 0))
    for method in (PLUG, "pplug", "pplug late"):
        both = [s for s, rows in sorted(seeds.items()) if (method, "") in rows and (CONTROL, "") in rows]
        control = pool([seeds[s][CONTROL, ""] for s in both]).scores[NLL]
        share[method] = round((control - pool([seeds[s][method, ""] for s in both]).scores[NLL]) / control, 5)
    return share


if __name__ == "__main__":
    main()
