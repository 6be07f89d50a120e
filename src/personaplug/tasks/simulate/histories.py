"""What simulated users did: their feedback on prompts, as behaviours, and the requests that it leaves out.

Shapes: u: users, p: prompts, a: answers to a prompt.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from personaplug.core.types import History
from personaplug.data.feedback import DISLIKED, rated_behavior
from personaplug.tasks.simulate.answer_set import AnswerSet
from personaplug.tasks.simulate.feedback import Feedback, Said, say


@dataclass(frozen=True, slots=True)
class Draw:
    """Which prompts a user meets: those of their requests, and those of their history, oldest first."""

    requests: tuple[int, ...]
    history: tuple[int, ...]


def user_name(user: int) -> str:
    """What a simulated user is called.

    >>> user_name(7)
    'user-00007'
    """
    return f"user-{user:05d}"


def draw_prompts(user: int, prompts: int, requests: int, history: int, seed: int) -> Draw:
    """A user's prompts: none twice, and a longer history is a shorter one with older prompts before it.

    Args:
        user: number of the user.
        prompts: how many there are.
        requests: how many are held out for requests.
        history: how many are met before them; fewer where there are no more.
        seed: of the draw.
    """
    order = [int(i) for i in np.random.default_rng([seed, 2, user]).permutation(prompts)]
    return Draw(tuple(order[:requests]), tuple(order[requests : requests + history][::-1]))


def say_of(user: int, prompt: int, values: NDArray[np.float64], feedback: Feedback, seed: int) -> Said:
    """What a user says of the answers to a prompt, worth `values` [a] to them; the same whenever they are asked."""
    return say(feedback, values.tolist(), np.random.default_rng([seed, 3, user, prompt]))


def simulate_history(
    user: int, prompts: Sequence[int], answers: AnswerSet, values: NDArray[np.float64], feedback: Feedback, seed: int
) -> History:
    """A user's feedback on some prompts, one a second from 0.

    What a user says of a prompt does not depend on the other prompts that they met.

    Args:
        user: number of the user.
        prompts: which, oldest first.
        answers: what they are shown.
        values: [p, a] what each answer is worth to this user.
        feedback: of which form.
        seed: of draws and noise.
    """
    name = user_name(user)
    behaviors = []
    for at, prompt in enumerate(prompts):
        said = say_of(user, prompt, values[prompt], feedback, seed)
        texts = answers.answers[prompt]
        made = rated_behavior(name, str(prompt), answers.prompts[prompt], texts[said.answer], said.rating, float(at))
        if said.disliked is not None:
            made = dataclasses.replace(made, fields={DISLIKED: texts[said.disliked]})
        behaviors.append(made)
    return History(name, tuple(behaviors))


def database(
    users: Sequence[int],
    answers: AnswerSet,
    values: NDArray[np.float64],
    feedback: Feedback,
    length: int,
    seed: int,
) -> Iterator[History]:
    """The cross-user database: each user's history of `length` prompts.

    Args:
        users: numbers of the users, in the order of the values' rows.
        answers: what they are shown.
        values: [u, p, a].
        feedback: of which form.
        length: prompts a user.
        seed: of everything.
    """
    for row, user in enumerate(users):
        drawn = draw_prompts(user, len(answers), 0, length, seed)
        yield simulate_history(user, drawn.history, answers, values[row], feedback, seed)
