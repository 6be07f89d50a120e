"""Users as weights of rewards: w ~ Dirichlet(alpha, ..., alpha), and what an answer is worth to them.

Shapes: u: users, w: rewards, p: prompts, a: answers to a prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from personaplug.core.errors import ConfigError, DataError
from personaplug.rewards.panel import Panel

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Users:
    """Simulated users.

    Attributes:
        rewards: names of the rewards, in the order of the weights' columns.
        weights: [u, w], each row adding up to 1.
    """

    rewards: tuple[str, ...]
    weights: Floats

    def __post_init__(self) -> None:
        if self.weights.ndim != 2 or self.weights.shape[1] != len(self.rewards):
            raise DataError(f"weights {self.weights.shape} of {len(self.rewards)} rewards: {', '.join(self.rewards)}")

    def __len__(self) -> int:
        return len(self.weights)

    def values(self, panel: Panel, raw: Floats) -> Floats:
        """What answers of raw scores [..., w] are worth to each user [u, ...]; 0 is the mean reference answer.

        The weighted sum of *standardised* scores (arXiv 2409.20296, section 2). Weights and scores are joined by the
        rewards' names, never by their places.

        Raises:
            DataError: the panel lacks one of the rewards, or the scores do not fit it.
        """
        chosen = [panel.names.index(n) for n in panel.only(self.rewards).names]
        return np.asarray(np.tensordot(self.weights, panel.standardise(raw)[..., chosen], axes=(1, -1)))


def draw_users(count: int, rewards: Sequence[str], alpha: float, seed: int) -> Users:
    """Users of a symmetric Dirichlet; the first ones stay the same when more are drawn.

    Args:
        count: how many.
        rewards: what they weigh.
        alpha: small: each user follows one reward; large: all users agree. The paper's experiments take 0.05.
        seed: equal seeds give equal users.

    Raises:
        ConfigError: no user, no reward, or an alpha that is not positive.
    """
    if count < 1 or not rewards or alpha <= 0:
        raise ConfigError(f"users: count = {count}, rewards = {len(rewards)}, alpha = {alpha}; each must be above 0")
    rng = np.random.default_rng([seed, 1])
    return Users(tuple(rewards), rng.dirichlet(np.full(len(rewards), alpha), count))
