"""How many questions are saved by asking about the pair that would teach most, instead of a drawn one.

    python benchmarks/active_asking.py runs/personalllm/local [--users 200] [--pairs 30] [--record]

On a set that `personaplug simulate` built. `lowrank` learns its directions from other users' drawn pairs. New users
are then asked about pairs of answers to the train prompts, either drawn or chosen (of the pairs of some drawn prompts
the one that teaches most of them all), answer by their true rewards, and after each answer get the best of the stored
answers to every test prompt by what is believed of them. What is reported: their mean reward after each number of
pairs, and how many chosen pairs reach the reward of so many drawn ones, with a 95% bootstrap over users.

Shapes: u: users, k: pairs asked, p: prompts, a: answers to a prompt, r: rank.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from personaplug.backbones.echo import EchoBackbone
from personaplug.bench.claims import Claim, record
from personaplug.bench.results import commit, versions
from personaplug.core import registry
from personaplug.core.files import write_json
from personaplug.encoders.cache.embeddings import VectorCache
from personaplug.methods.lowrank import LowRank
from personaplug.methods.preference.bradley_terry import next_pair, updated
from personaplug.metrics.bootstrap import Interval
from personaplug.pipeline.build import build_encoder
from personaplug.tasks.personalllm import PersonalLLM
from personaplug.tasks.simulate.answer_set import AnswerSet
from personaplug.tasks.simulate.users import Users
from personaplug.training.config import TrainingConfig

HERE = Path(__file__).parent
ENCODERS: dict[str, dict[str, Any]] = {
    "style": {"name": "style"},
    "joined": {"name": "joined", "parts": [{"name": "style"}, {"name": "sentence", "model": "minilm"}]},
}
GOAL = 0.6
_SAMPLES = 2_000

Floats = NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", type=Path)
    parser.add_argument("--users", type=int, default=200, help="who are asked")
    parser.add_argument("--pairs", type=int, default=30, help="asked of each")
    parser.add_argument("--known", type=int, default=600, help="training users")
    parser.add_argument("--history", type=int, default=20, help="pairs of each training user")
    parser.add_argument("--prompts", type=int, default=16, help="drawn prompts that a chosen pair is chosen of")
    parser.add_argument("--encoder", choices=sorted(ENCODERS), default="style", help="what sees the answers")
    parser.add_argument("--temperature", type=float, default=0.0, help="of the answers' noise")
    parser.add_argument("--draws", type=int, default=3, help="times that each user is asked anew; the mean counts")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", action="store_true", help="write the result and the claim")
    args = parser.parse_args()
    task = registry.build("task", "personalllm", _task(args))
    method = learned(task, ENCODERS[args.encoder])
    train, test = (along(method, answers) for answers in (task.train_answers, task.test_answers))
    asked = task.users_of("test")[: args.users]
    users = Users(task.users.rewards, task.users.weights[asked])
    worth = [users.values(task.panel, s.raw) for s in (task.train_answers, task.test_answers)]
    curves = {
        how: np.mean([ask_all(method, how, train, test, worth, args, draw) for draw in range(args.draws)], axis=0)
        for how in ("drawn", "chosen")
    }
    figures = summary(curves, worth[1])
    for key, value in figures.items():
        print(key, value)
    if args.record:
        setting = {k: v for k, v in vars(args).items() if k not in ("set", "record")}
        made = {"set": args.set.name, **setting, **figures, "commit": commit(), "versions": versions()}
        write_json(HERE / "active_asking.json", made)
        share = figures["share of pairs"]
        words = f"pairs chosen by uncertainty reach the reward of {args.pairs} drawn ones with this share of them"
        claim = Claim.now("lowrank.active-asking", words, Interval(*share), f"<= {GOAL}", share[2] <= GOAL)
        record(HERE, claim)


def _task(args: argparse.Namespace) -> dict[str, Any]:
    count = args.known + args.users
    return {
        "path": str(args.set), "users": count, "history": args.history, "seed": args.seed, "test": args.users / count,
        "dev": 1 / count, "feedback": {"kind": "pair"},
    }  # fmt: skip


def learned(task: PersonalLLM, encoder: dict[str, Any]) -> LowRank:
    """The directions, from the training users' pairs."""
    backbone = EchoBackbone()
    vectors = VectorCache(build_encoder(encoder, backbone))
    method = registry.build("method", "lowrank", {}, backbone=backbone, vectors=vectors, task=task.info)
    with tempfile.TemporaryDirectory() as folder:
        method.fit(task.examples("train"), [], TrainingConfig(), Path(folder))
    return method


def along(method: LowRank, answers: AnswerSet) -> Floats:
    """All answers along the directions [p, a, r]."""
    texts = [a for own in answers.answers for a in own]
    method.needed_vectors().query(texts, "history")  # in large batches
    return np.stack([method.along(p, own) for p, own in zip(answers.prompts, answers.answers, strict=True)])


def ask_all(
    method: LowRank, how: str, train: Floats, test: Floats, worth: list[Floats], args: argparse.Namespace, draw: int
) -> Floats:
    """Reward of each user after each number of pairs [u, k + 1]."""
    curves = []
    for user in range(len(worth[0])):
        rng = np.random.default_rng([args.seed + draw, user])
        belief, pairs = method.prior, np.zeros((0, train.shape[-1]))
        rewards = [reward(belief.mean, test, worth[1][user])]
        for _ in range(args.pairs):
            prompt, i, j = choose(how, belief, train, rng, args.prompts)
            gap = worth[0][user][prompt, i] - worth[0][user][prompt, j] + args.temperature * rng.logistic()
            better, other = (i, j) if gap > 0 else (j, i)
            pairs = np.vstack([pairs, train[prompt, better] - train[prompt, other]])
            belief = updated(method.prior, pairs)
            rewards.append(reward(belief.mean, test, worth[1][user]))
        curves.append(rewards)
    return np.array(curves)


def choose(how: str, belief: Any, train: Floats, rng: np.random.Generator, prompts: int) -> tuple[int, int, int]:
    answers = train.shape[1]
    if how == "drawn":
        i, j = rng.choice(answers, 2, replace=False)
        return int(rng.integers(len(train))), int(i), int(j)
    drawn = rng.choice(len(train), min(prompts, len(train)), replace=False)
    places = [(int(p), i, j) for p in drawn for i in range(answers) for j in range(i)]
    differences = np.array([train[p, i] - train[p, j] for p, i, j in places])
    return places[next_pair(belief, differences)]


def reward(weights: Floats, test: Floats, worth: Floats) -> float:
    """Mean over the test prompts of what the chosen stored answers are worth [p, a]."""
    chosen = (test @ weights).argmax(-1)
    return float(worth[np.arange(len(worth)), chosen].mean())


def summary(curves: dict[str, Floats], worth: Floats) -> dict[str, Any]:
    drawn, chosen = curves["drawn"], curves["chosen"]
    shares = []
    rng = np.random.default_rng(0)
    for _ in range(_SAMPLES):
        rows = rng.integers(0, len(drawn), len(drawn))
        shares.append(share(drawn[rows].mean(0), chosen[rows].mean(0)))
    low, high = np.percentile(shares, (2.5, 97.5))
    return {
        "drawn": [round(float(v), 4) for v in drawn.mean(0)],
        "chosen": [round(float(v), 4) for v in chosen.mean(0)],
        "best stored": round(float(worth.max(-1).mean()), 4),
        "mean stored": round(float(worth.mean()), 4),
        "share of pairs": (share(drawn.mean(0), chosen.mean(0)), float(low), float(high)),
    }


def share(drawn: Floats, chosen: Floats) -> float:
    """The least number of chosen pairs whose reward is that of all drawn ones, as a share; above 1 if none is."""
    reached = np.flatnonzero(chosen >= drawn[-1])
    return float(reached[0] / (len(drawn) - 1)) if len(reached) else 1.0 + 1.0 / len(drawn)


if __name__ == "__main__":
    main()
