"""Questions that need no persona and have answers that can be checked: what a persona costs elsewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Literal

from personaplug.core.errors import DataError

Kind = Literal["knowledge", "arithmetic", "format"]
_NUMBER = re.compile(r"-?\d+(?:[.,]\d+)*")


@dataclass(frozen=True, slots=True)
class Checkable:
    """A question with what a right answer is.

    Attributes:
        id: unique in the set.
        kind: `knowledge`: one of `accepted` stands in the answer as words of their own; `arithmetic`: the answer's last
            number is one of them; `format`: the whole answer, without white space around it, matches one as a pattern.
        question: what is asked.
        accepted: right answers.
    """

    id: str
    kind: Kind
    question: str
    accepted: tuple[str, ...]


@lru_cache(maxsize=1)
def questions() -> tuple[Checkable, ...]:
    """The project's own set: general knowledge, arithmetic, formats."""
    rows = json.loads(files("personaplug.metrics").joinpath("off_topic.json").read_text("utf-8"))
    return tuple(
        Checkable(f"{kind}-{i}", kind, q, tuple(a)) for kind, own in rows.items() for i, (q, a) in enumerate(own)
    )


def right(question: Checkable, answer: str) -> bool:
    """Whether an answer is right.

    >>> right(Checkable("1", "knowledge", "What is the capital of France?", ("Paris",)), "It is Paris.")
    True
    >>> right(Checkable("2", "arithmetic", "What is 2 + 3?", ("5",)), "2 + 3 = 5.")
    True
    """
    if question.kind == "arithmetic":
        numbers = [n.replace(",", "") for n in _NUMBER.findall(answer)]
        return bool(numbers) and numbers[-1].rstrip(".") in question.accepted
    if question.kind == "format":
        return any(re.fullmatch(pattern, answer.strip(), re.DOTALL) for pattern in question.accepted)
    said = answer.casefold()
    return any(re.search(rf"(?<!\w){re.escape(a.casefold())}(?!\w)", said) for a in question.accepted)


def retained(asked: Sequence[Checkable], bare: Sequence[str], personal: Sequence[str]) -> list[float]:
    """For each question that the bare model answers rightly, 1 if the answer with a persona is right too, else 0.

    Args:
        asked: the questions.
        bare: answers without a persona.
        personal: answers with one, in the same order.

    Raises:
        DataError: the lengths differ.
    """
    if not len(asked) == len(bare) == len(personal):
        raise DataError(f"{len(asked)} questions, {len(bare)} bare and {len(personal)} personal answers; give one each")
    return [float(right(q, p)) for q, b, p in zip(asked, bare, personal, strict=True) if right(q, b)]
