"""What every reward does: prompts and answers in, scores out. n: answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

Scores = NDArray[np.float64]


class Reward(ABC):
    """One taste. Built as `Reward(config)`; higher is better liked; the scale is its own (see `rewards.panel`)."""

    Config: ClassVar[type[Any]]
    summary: ClassVar[str]  # one line for `personaplug list rewards`
    source: ClassVar[str]

    key: str
    """Identity of the scores (model, settings): scores of another key never mix with these."""

    @abstractmethod
    def score(
        self, prompts: Sequence[str], answers: Sequence[str], progress: Callable[[int], None] | None = None
    ) -> Scores:
        """Scores [n], finite, of answers to prompts, in their order.

        A score depends on its own prompt and answer alone, not on the batch that they sit in (up to rounding).

        Args:
            prompts: n prompts.
            answers: one a prompt; an empty one gets a score too.
            progress: called with the number of answers done since the last call.

        Raises:
            ValueError: there are more of one than of the other.
        """


class PlainReward(Reward):
    """A reward that is computed of one answer at a time."""

    @abstractmethod
    def one(self, prompt: str, answer: str) -> float:
        """The score of one answer."""

    @override
    def score(
        self, prompts: Sequence[str], answers: Sequence[str], progress: Callable[[int], None] | None = None
    ) -> Scores:
        scores = np.zeros(len(answers))
        for i, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
            scores[i] = self.one(prompt, answer)
            if progress:
                progress(1)
        return scores
