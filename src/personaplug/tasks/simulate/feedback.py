"""What a simulated user says of answers that they are shown: a rating, a choice of two or of several, a thumb.

Noise is Bradley-Terry's: of two answers worth v and v', the first is preferred with chance s((v - v') / temperature),
where s is the logistic function; at temperature 0 the better one always is, and equal ones are tossed for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from personaplug.core.errors import ConfigError

Kind = Literal["pair", "extremes", "best", "thumbs", "scalar"]


@dataclass(frozen=True, slots=True)
class Feedback:
    """How users give feedback.

    Attributes:
        kind: `pair`: the better of two drawn answers; `extremes`: the better of the best and the worst of all (the
            paper's final form); `best`: the best of `shown` drawn ones, beside one of the others; `thumbs`: up or down
            for a drawn answer; `scalar`: a rating in [0, 1] of a drawn answer, 0.5 for the mean reference answer.
        shown: answers that `best` is chosen of.
        temperature: of the noise, in standard deviations of the rewards.
    """

    kind: Kind = "pair"
    shown: int = 8
    temperature: float = 0.0

    def __post_init__(self) -> None:
        if self.temperature < 0 or self.shown < 2:
            raise ConfigError(
                f"feedback: temperature = {self.temperature}, shown = {self.shown}; expected 0 or more, and 2 or more"
            )


@dataclass(frozen=True, slots=True)
class Said:
    """What a user said: the answer that it is about, how much they liked it in [0, 1], and what they liked less."""

    answer: int
    rating: float
    disliked: int | None = None


def say(feedback: Feedback, values: Sequence[float], rng: np.random.Generator) -> Said:
    """One user's feedback on the answers to one prompt.

    Args:
        feedback: of which form.
        values: what each answer is worth to the user.
        rng: of the draws and the noise.

    Raises:
        ConfigError: fewer answers than are compared.
    """
    compared = {"pair": 2, "extremes": 2, "best": 2}.get(feedback.kind, 1)
    if len(values) < compared:
        raise ConfigError(f"feedback {feedback.kind!r} on {len(values)} answers; it compares {compared}")
    order = [int(i) for i in rng.permutation(len(values))]  # also tosses for equal ones
    if feedback.kind == "pair":
        return _choose(feedback, values, order[:2], rng)
    if feedback.kind == "extremes":
        best = max(order, key=values.__getitem__)
        worst = min((i for i in order if i != best), key=values.__getitem__)
        return _choose(feedback, values, [best, worst], rng)
    if feedback.kind == "best":
        return _choose(feedback, values, order[: feedback.shown], rng)
    shown = order[0]
    if feedback.kind == "scalar":
        return Said(shown, _logistic(values[shown] + feedback.temperature * float(rng.logistic())))
    up = values[shown] + feedback.temperature * float(rng.logistic()) > 0
    return Said(shown, float(up))


def _choose(feedback: Feedback, values: Sequence[float], shown: Sequence[int], rng: np.random.Generator) -> Said:
    """The best of those shown, and the next of the others; Gumbel noise makes choices of two Bradley-Terry's."""
    noisy = {i: values[i] + feedback.temperature * float(rng.gumbel()) for i in shown}
    best = max(shown, key=noisy.__getitem__)
    return Said(best, 1.0, next(i for i in shown if i != best))


def _logistic(x: float) -> float:
    return 0.5 * (1.0 + float(np.tanh(0.5 * x)))  # does not overflow
