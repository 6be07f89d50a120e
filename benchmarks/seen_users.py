"""What methods are worth to users of whom they learned, beside those whom they never met.

    python benchmarks/seen_users.py TASK.toml [ARTIFACT ...] [--methods "icl 5,neighbours,lowrank"] [--users 96]

TASK.toml is an experiment with `split = "user"`. Each artifact is a folder that `personaplug bench` left of it, one a
seed; methods are the experiment's own that learn in a moment. Both kinds of users ask prompts that are in no training.
Reported for each method and kind: mean reward over users, mean over artifacts, and the paired gain over the bare model,
with 95% bootstraps over users. What seen_users.json says of methods that are not measured now stays.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from personaplug.bench.experiment import Experiment
from personaplug.bench.measure import MeasureConfig, measure, with_judgement
from personaplug.bench.plan import plan_methods
from personaplug.bench.results import commit, versions
from personaplug.core import registry
from personaplug.core.config import read_toml
from personaplug.core.files import write_json
from personaplug.core.sequences import evenly_spaced
from personaplug.core.types import Example
from personaplug.methods.base import Method
from personaplug.metrics.bootstrap import Interval, bootstrap, paired_bootstrap
from personaplug.pipeline.build import load, read_run
from personaplug.tasks.personalllm import PersonalLLM

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", type=Path)
    parser.add_argument("artifacts", type=Path, nargs="*")
    parser.add_argument("--methods", default="", help="of the experiment, with commas between")
    parser.add_argument("--users", type=int, default=96, help="of each kind")
    parser.add_argument("--results", type=Path, default=HERE, help="folder of seen_users.json")
    args = parser.parse_args()
    run = read_run(read_toml(args.experiment), str(args.experiment))
    path = args.results / "seen_users.json"
    figures = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        experiment = Experiment(run, Path(folder), args.experiment.stem)
        task = experiment.task
        assert isinstance(task, PersonalLLM), "the task must be personalllm"
        kinds = {"seen": task.users_of("train"), "unseen": task.users_of("test")}
        examples = {kind: evenly_spaced(task.requests(users, "test"), args.users) for kind, users in kinds.items()}
        bare = registry.build("method", "none", {}, backbone=experiment.backbone, task=task.info)
        alone = {kind: rewards(bare, task, asked) for kind, asked in examples.items()}
        for kind, own in alone.items():
            figures.setdefault(kind, {})["none"] = said([own], own)
        for name, methods in groups(experiment, args.methods.split(",") if args.methods else [], args.artifacts):
            for kind, asked in examples.items():
                each = [rewards(method, task, asked) for method in methods]
                figures[kind][name] = said(each, alone[kind])
                print(kind, name, figures[kind][name], flush=True)
            write_json(path, figures)  # after each: what was measured is not lost with what follows
        experiment.close()


def groups(
    experiment: Experiment, labels: Sequence[str], folders: Sequence[Path]
) -> Iterator[tuple[str, list[Method]]]:
    """Each method's name with its fitted instances: those of the experiment first, then the artifacts'."""
    for entry in plan_methods(experiment.run, labels, prefix=True) if labels else []:
        yield entry.label, [experiment.fit(entry.run, entry.label).components.method]
    made = [load(folder, None, experiment.backbone).method for folder in folders]
    for name in dict.fromkeys(method.name for method in made):
        yield name, [method for method in made if method.name == name]


def rewards(method: Method, task: PersonalLLM, asked: Sequence[Example]) -> list[float]:
    """What the method's answers are worth to those who ask."""
    row = measure(method, task.info, asked, MeasureConfig(generate=len(asked)))
    return list(with_judgement(row, task, asked).values["user_reward"])


def said(each: Sequence[Sequence[float]], alone: Sequence[float]) -> dict[str, Any]:
    ours = np.mean(each, axis=0).tolist()
    return {
        "users": len(ours),
        "reward": _ends(bootstrap(ours)),
        "gain": _ends(paired_bootstrap(ours, alone)),
        "each": [float(np.mean(r)) for r in each],
        "commit": commit(),
        "versions": versions(),
    }


def _ends(interval: Interval) -> list[float]:
    return [interval.mean, interval.low, interval.high]


if __name__ == "__main__":
    main()
