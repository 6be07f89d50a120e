"""Is `explain` faithful: does removing the behaviours that it names move the answer more than removing others?

    python benchmarks/faithfulness.py CONFIG.toml OUT [--label plug] [--requests 150] [--seed 0]

CONFIG and OUT are those of `personaplug bench CONFIG.toml --out OUT`, which leaves the trained method there; where it
is not there yet, it is trained first. For test requests with at least 8 behaviours of history, evenly spread, the
heaviest 10% and 25% of the behaviours (at least one) by `explain` are removed from the history, the user is prepared
anew, and the log-probability (nats, over all tokens) of what the user really answered is compared with that under the
whole history. Beside it: as many behaviours at random (mean over 5 draws), and the lightest. What is claimed is the
mean |change| by the heaviest minus that by random ones, with a paired bootstrap over users. The language model scores
in float32, since the rounding of bfloat16 would count as change.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from personaplug.backbones.base import Backbone
from personaplug.bench.claims import Claim, record
from personaplug.bench.experiment import Experiment
from personaplug.bench.plan import plan_methods
from personaplug.cli.progress import Steps
from personaplug.cli.train import read_experiment
from personaplug.core.errors import DataError
from personaplug.core.files import write_json
from personaplug.core.sequences import evenly_spaced
from personaplug.core.types import Example, History, Profile
from personaplug.methods.base import Method
from personaplug.methods.plug import PlugMethodConfig
from personaplug.metrics.bootstrap import paired_bootstrap
from personaplug.pipeline.build import build_backbone

HERE = Path(__file__).parent
SHARES = (0.1, 0.25)
DRAWS = 5
LEAST = 8  # behaviours of a history
BATCH = 16  # requests
KINDS = ("heaviest", "random", "lightest")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--label", default="plug", help="the method's, as the experiment calls it")
    parser.add_argument("--requests", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0, help="of the training and of the random draws")
    parser.add_argument("--results", type=Path, default=HERE, help="folder of faithfulness.json")
    args = parser.parse_args()
    folder = args.out / args.config.resolve().parent.name / args.config.stem
    experiment = read_experiment(args.config, [], folder, Steps(), by_content=True)
    try:
        users, changes = measure(experiment, args.label, args.requests, args.seed)
    finally:
        experiment.close()
    report(f"{experiment.info.name}-{args.label}", args.seed, users, changes, args.results)


def measure(experiment: Experiment, label: str, requests: int, seed: int) -> tuple[list[str], np.ndarray]:
    """Who asked each request, and |change| in nats [requests, shares, kinds]."""
    [entry] = [e for e in plan_methods(experiment.run.with_seed(seed), [label], prefix=True) if e.label == label]
    components = experiment.fit(entry.run, entry.label).components
    examples = evenly_spaced([e for e in experiment.examples("test") if len(e.history) >= LEAST], requests)
    experiment.encode(components, examples)
    judge = build_backbone(experiment.run.backbone.updated(dtype="float32"))
    rng = np.random.default_rng(seed)
    moves = []
    with experiment.progress(f"removing behaviours, {label}", len(examples)) as advance:
        for start in range(0, len(examples), BATCH):
            batch = examples[start : start + BATCH]
            moves.append(moved(components.method, judge, batch, rng))
            advance(len(batch))
    return [e.history.user for e in examples], np.concatenate(moves)


def moved(method: Method, judge: Backbone, examples: Sequence[Example], rng: np.random.Generator) -> np.ndarray:
    """|change| in nats [b, shares, kinds] of each answer's log-probability."""
    rows = [(e, h) for e in examples for h in shortened(method, e, rng)]
    states = method.prepare_many([h for _, h in rows])
    profiles = [Profile(h, s) for (_, h), s in zip(rows, states, strict=True)]
    prompts = method.personalize_many([e.request for e, _ in rows], profiles)
    nats = [s.logprob for s in judge.score(prompts, [e.target for e, _ in rows])]
    table = np.array(nats).reshape(len(examples), -1)
    changes = np.abs(table[:, 1:] - table[:, :1]).reshape(len(examples), len(SHARES), 2 + DRAWS)
    return np.stack([changes[..., 0], changes[..., 2:].mean(-1), changes[..., 1]], axis=-1)


def shortened(method: Method, example: Example, rng: np.random.Generator) -> list[History]:
    """The whole history, then for each share without the heaviest, the lightest and each random draw."""
    config, history = method.config, example.history
    if isinstance(config, PlugMethodConfig):
        history = history.last(config.max_history)  # what it reads: nothing older may take a removed one's place
    at = {b.id: i for i, b in enumerate(history)}
    named = [at[w.behavior.id] for w in method.explain(example.request, Profile(history))]
    if not named:
        raise DataError(f"method {method.name!r} explains nothing of request {example.id!r}; choose another --label")
    order = [*named, *sorted(set(at.values()) - set(named), reverse=True)]
    removed: list[Sequence[int]] = [[]]
    for share in SHARES:
        count = max(1, round(share * len(order)))
        draws = [rng.choice(len(order), count, replace=False).tolist() for _ in range(DRAWS)]
        removed += [order[:count], order[-count:], *draws]
    left = [tuple(b for i, b in enumerate(history) if i not in without) for without in map(set, removed)]
    return [History(history.user, behaviors) for behaviors in left]


def report(name: str, seed: int, users: Sequence[str], changes: np.ndarray, folder: Path) -> None:
    """Print the table, and write it with its claims."""
    name = name.replace(" ", "-") + (f"-seed{seed}" if seed else "")
    size = f"{len(users)} requests of {len(set(users))} users"
    print(f"{name}: mean |change| of the answer's log-probability in nats, {size}")
    rows: dict[str, Any] = {"requests": len(users), "users": len(set(users))}
    claims = []
    for share, each in zip(SHARES, changes.transpose(1, 2, 0), strict=True):
        heaviest, random, _ = each
        gap = paired_bootstrap(heaviest, random, groups=users)
        means = dict(zip(KINDS, each.mean(-1).round(5).tolist(), strict=True))
        interval = [round(gap.low, 5), round(gap.high, 5)]
        rows[f"{share:.0%}"] = {**means, "heaviest - random": round(gap.mean, 5), "interval": interval}
        print(f"  {share:.0%} removed: " + ", ".join(f"{kind} {mean:.4f}" for kind, mean in means.items()), end="; ")
        print(f"heaviest - random {gap.mean:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}]")
        words = (f"{name}: how much further (nats) the log-probability of the user's answer moves when the heaviest "
                 f"{share:.0%} of the history by explain are removed than when as many random ones are, which move it "
                 f"by {means['random']:.4f}; {size}")  # fmt: skip
        claims.append(Claim.now(f"faithfulness-{name}-{100 * share:.0f}", words, gap, "> 0", gap.low > 0))
    file = folder / "faithfulness.json"
    before = json.loads(file.read_text("utf-8")) if file.exists() else {}
    write_json(file, dict(sorted({**before, name: rows}.items())))
    record(folder, *claims)


if __name__ == "__main__":
    main()
