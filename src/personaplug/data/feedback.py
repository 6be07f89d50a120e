"""How likes and dislikes are written as behaviours, and read from them.

A behaviour is one piece of feedback: `input` is the prompt, `output` an answer that the user liked, wrote or chose,
`rating` how much they liked it, and the field `disliked` an answer to the same prompt that they liked less. So a pair
is `output`, rating 1 and `disliked`; a thumb down is `disliked`, rating 0 and no output: methods that learn from what
users write must not take for theirs what they disliked. (An output with a rating below 0.5 is read as disliked too.)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

from personaplug.core.types import Behavior

DISLIKED = "disliked"
"""The field that holds the answer that was liked less."""
MIDDLE = 0.5
"""Ratings from here on are likes."""


@dataclass(frozen=True, slots=True)
class Preference:
    """What a behaviour says: `liked` and `disliked` are answers to `prompt`; None where nothing is said of one."""

    prompt: str
    liked: str | None
    disliked: str | None

    @property
    def pair(self) -> bool:
        """Whether it compares two answers."""
        return self.liked is not None and self.disliked is not None


def preference(behavior: Behavior) -> Preference:
    """What a behaviour says; an empty answer is an answer too, where it is named."""
    other = behavior.fields.get(DISLIKED)
    if behavior.rating is None or behavior.rating >= MIDDLE:
        liked = behavior.output if behavior.output or other is not None else None
        return Preference(behavior.input, liked, other)
    return Preference(behavior.input, None, behavior.output or other or "")


def pair_behavior(user: str, id_: str, prompt: str, liked: str, disliked: str, at: float | None = None) -> Behavior:
    """The behaviour of a user who preferred one answer to another."""
    return Behavior(user, id_, prompt, liked, at, 1.0, {DISLIKED: disliked})


def rated_behavior(user: str, id_: str, prompt: str, answer: str, rating: float, at: float | None = None) -> Behavior:
    """The behaviour of a user who liked or disliked an answer so much, in [0, 1]."""
    if rating >= MIDDLE:
        return Behavior(user, id_, prompt, answer, at, rating)
    return Behavior(user, id_, prompt, "", at, rating, {DISLIKED: answer})


def thumb_behavior(user: str, id_: str, prompt: str, answer: str, up: bool, at: float | None = None) -> Behavior:
    """The behaviour of a user who gave an answer a thumb."""
    return rated_behavior(user, id_, prompt, answer, float(up), at)


def answers_of(behaviors: Iterable[Behavior], which: str) -> list[Behavior]:
    """For each behaviour that names one, a behaviour whose output is the `liked` or the `disliked` answer.

    Ids stay, so that vectors of these texts are stored as the behaviour's own.
    """
    answers = []
    for behavior in behaviors:
        said = preference(behavior)
        text = said.liked if which == "liked" else said.disliked
        if text is not None and (text or behavior.input):
            answers.append(dataclasses.replace(behavior, output=text))
    return answers
