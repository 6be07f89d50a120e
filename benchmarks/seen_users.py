"""What trained methods are worth to users of whom they learned, beside those whom they never met.

    python benchmarks/seen_users.py TASK.toml ARTIFACT... [--users 96] [--results benchmarks]

TASK.toml is an experiment with `split = "user"`; each artifact is a folder that `personaplug bench` left of it, one a
seed. Both kinds of users ask prompts that are in no training. Reported for each kind: mean reward over users, mean over
artifacts, that of the bare model, and the paired gain over it, with 95% bootstraps over users.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from personaplug import registry
from personaplug.assembly import build_task, load
from personaplug.bench.experiment import read_run
from personaplug.bench.results import commit, versions, write_json
from personaplug.bench.run import Measuring, measure, with_judgement
from personaplug.config import read_toml
from personaplug.metrics import Interval, bootstrap, paired_bootstrap
from personaplug.spread import spread
from personaplug.tasks.personalllm import PersonalLLM

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", type=Path)
    parser.add_argument("artifacts", type=Path, nargs="+")
    parser.add_argument("--users", type=int, default=96, help="of each kind")
    parser.add_argument("--results", type=Path, default=HERE, help="folder of seen_users.json")
    args = parser.parse_args()
    run = read_run(read_toml(args.experiment), str(args.experiment))
    task = build_task(run.task)
    assert isinstance(task, PersonalLLM), "the task must be personalllm"
    kinds = {"seen": task.users_of("train"), "unseen": task.users_of("test")}
    examples = {kind: spread(task.requests(users, "test"), args.users) for kind, users in kinds.items()}
    made = [load(folder, None) for folder in args.artifacts]
    methods = [m.method for m in made]
    bare = registry.build("method", "none", {}, backbone=made[0].backbone, task=task.info)
    found = {}
    for kind, asked in examples.items():
        rewards = []
        for method in [bare, *methods]:
            row = measure(method, task.info, asked, Measuring(generate=len(asked)))
            rewards.append(with_judgement(row, task, asked).values["user_reward"])
            print(kind, method.name, np.mean(rewards[-1]), flush=True)
        ours = np.mean(rewards[1:], axis=0).tolist()
        found[kind] = {
            "users": len({e.history.user for e in asked}),
            "none": _ends(bootstrap(rewards[0])),
            methods[0].name: _ends(bootstrap(ours)),
            "gain": _ends(paired_bootstrap(ours, rewards[0])),
            "each": [float(np.mean(r)) for r in rewards[1:]],
        }
        print(kind, found[kind])
    write_json(args.results / "seen_users.json", {**found, "commit": commit(), "versions": versions()})


def _ends(interval: Interval) -> list[float]:
    return [interval.mean, interval.low, interval.high]


if __name__ == "__main__":
    main()
