"""Controls: the same requests with histories that should not help, so that what is left of a gain is personal."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from typing import Literal, get_args

from personaplug.core.errors import ConfigError, DataError, did_you_mean
from personaplug.core.types import Example, History

Control = Literal["", "shuffled users", "no history"]
NEWEST = "newest "
"""`newest 4`: the user's own newest four behaviours alone; the points of a cold-start curve."""


def derangement(users: Sequence[str], seed: int) -> dict[str, str]:
    """Another user for each user, each taken once, drawn by seed; nobody is given themselves.

    Raises:
        DataError: there are fewer than two users.
    """
    order = sorted(set(users))
    if len(order) < 2:
        raise DataError(f"shuffling needs at least 2 users, the split has {len(order)}; measure on more users")
    random.Random(seed).shuffle(order)
    return dict(zip(order, [*order[1:], order[0]], strict=True))  # one cycle through all: no fixed point


def apply_control(examples: Sequence[Example], control: str, seed: int) -> list[Example]:
    """The examples with the histories that a control gives them.

    Args:
        examples: of one split, each user's oldest first.
        control: a `Control` or `newest N`; `shuffled users` gives each user's requests the history of another user's
            newest request.
        seed: decides who is given whom.

    Raises:
        ConfigError: no such control.
        DataError: there is nobody to shuffle with.
    """
    check_control(control)
    count = newest(control)
    if count is not None:
        return [dataclasses.replace(e, history=e.history.last(count)) for e in examples]
    if not control:
        return list(examples)
    if control == "no history":
        return [dataclasses.replace(e, history=History(e.history.user)) for e in examples]
    last = {e.history.user: e.history for e in examples}
    other = derangement(list(last), seed)
    return [dataclasses.replace(e, history=last[other[e.history.user]]) for e in examples]


def check_control(control: str) -> None:
    """Refuse a name that is no control's.

    Raises:
        ConfigError: no such control.
    """
    known = get_args(Control)
    if control not in known and newest(control) is None:
        raise ConfigError(f"control {control!r} is unknown; {did_you_mean(control, [*known[1:], f'{NEWEST}4'])}")


def newest(control: str) -> int | None:
    """How many behaviours a control of the kind `newest N` keeps; None of any other.

    >>> newest("newest 4"), newest("no history")
    (4, None)
    """
    number = control.removeprefix(NEWEST)
    return int(number) if number != control and number.isdecimal() else None
