"""How much simulated users differ: whether they agree on the best answer, and on how many rewards it rests.

Shapes: u: users, w: rewards, p: prompts, a: answers to a prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from personaplug.rewards.panel import Panel
from personaplug.tasks.simulate.users import Floats, Users, draw_users

ALPHAS = (0.01, 0.05, 0.1, 0.5, 1.0)
THRESHOLDS = tuple(round(0.05 * i, 2) for i in range(1, 21))
_BLOCK = 4_000_000  # values at a time


@dataclass(frozen=True, slots=True)
class Diversity:
    """Users of one alpha on one set of answers.

    Attributes:
        alpha: of their Dirichlet.
        users: how many.
        top_weight: mean share of a user's heaviest reward.
        effective_rewards: mean over users of exp(entropy of the weights).
        disagreement: chance that two users differ on the best answer to a prompt.
        majority: for each of `THRESHOLDS`, the share of prompts whose favourite gets at most so much of the votes.
        winners: mean number of answers to a prompt that are somebody's best.
    """

    alpha: float
    users: int
    top_weight: float
    effective_rewards: float
    disagreement: float
    majority: tuple[float, ...]
    winners: float


def best_answers(users: Users, panel: Panel, raw: Floats) -> NDArray[np.int64]:
    """Each user's best answer to each prompt [u, p], of raw scores [p, a, w]."""
    step = max(1, _BLOCK // (len(users) * raw.shape[1]))
    blocks = [users.values(panel, raw[at : at + step]).argmax(-1) for at in range(0, len(raw), step)]
    return np.concatenate(blocks, axis=1)


def votes(best: NDArray[np.int64], answers: int) -> NDArray[np.int64]:
    """How many users find each answer best [p, a]."""
    return np.stack([(best == j).sum(axis=0) for j in range(answers)], axis=1)


def disagreement(counted: NDArray[np.int64]) -> float:
    """Chance that two different users differ on the best answer, from votes [p, a]."""
    total = counted.sum(axis=1)
    same = (counted * (counted - 1)).sum(axis=1) / np.maximum(total * (total - 1), 1)
    return float(1.0 - same.mean())


def majority_curve(counted: NDArray[np.int64], thresholds: Sequence[float] = THRESHOLDS) -> tuple[float, ...]:
    """Share of prompts whose favourite answer gets at most each share of the votes, from votes [p, a]."""
    top = counted.max(axis=1) / counted.sum(axis=1)
    return tuple(float((top <= t + 1e-12).mean()) for t in thresholds)


def top_weight(weights: Floats) -> float:
    """Mean over users of the heaviest reward's share, from weights [u, w]."""
    return float(weights.max(axis=1).mean())


def effective_rewards(weights: Floats) -> float:
    """Mean over users of exp(entropy), from weights [u, w]: 1 where each follows one reward, w where all count."""
    safe = np.clip(weights, 1e-300, None)
    return float(np.exp(-(weights * np.log(safe)).sum(axis=1)).mean())


def diversity(users: Users, alpha: float, panel: Panel, raw: Floats) -> Diversity:
    """Measure users on answers of raw scores [p, a, w]."""
    counted = votes(best_answers(users, panel, raw), raw.shape[1])
    return Diversity(
        alpha=alpha,
        users=len(users),
        top_weight=top_weight(users.weights),
        effective_rewards=effective_rewards(users.weights),
        disagreement=disagreement(counted),
        majority=majority_curve(counted),
        winners=float((counted > 0).sum(axis=1).mean()),
    )


def by_alpha(
    panel: Panel, raw: Floats, alphas: Sequence[float] = ALPHAS, users: int = 1000, seed: int = 0
) -> tuple[Diversity, ...]:
    """The same for several alphas, from raw scores [p, a, w]; each with its own draw of so many users."""
    return tuple(diversity(draw_users(users, panel.names, a, seed), a, panel, raw) for a in alphas)


def wins_by_model(best: NDArray[np.int64], models: Sequence[Sequence[str]]) -> dict[str, float]:
    """Share of (user, prompt) pairs whose best answer each model wrote, from [u, p] and names [p][a]."""
    shares: dict[str, float] = {}
    for prompt, names in enumerate(models):
        for answer, count in zip(*np.unique(best[:, prompt], return_counts=True), strict=True):
            name = names[int(answer)]
            shares[name] = shares.get(name, 0.0) + float(count) / best.size
    return dict(sorted(shares.items(), key=lambda item: -item[1]))
