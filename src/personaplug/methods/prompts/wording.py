"""Write a user's behaviours, or words about the user, into a request's messages, within a budget of tokens."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from personaplug.core.config import fill
from personaplug.core.types import Behavior, Message, Request

if TYPE_CHECKING:
    from personaplug.backbones.base import Backbone
    from personaplug.tasks.base import Wording

_LEAST_REQUEST = 0.6  # of the whole length is the request's, if it is as long as that
_ROUNDS = 4  # of shortening a text: where it is cut, tokens may merge or split


@dataclasses.dataclass(frozen=True, slots=True)
class TokenBudget:
    """How many tokens items may take.

    The items of a prompt share `length - min(request, 0.6 length)` tokens; what one leaves over goes to the next
    (LaMP, arXiv 2304.11406). The request itself is never cut.
    """

    length: int
    backbone: Backbone

    def fit(self, items: Sequence[Behavior], request: Request, wording: Wording) -> list[Behavior]:
        """The items, shortened to their shares, the input first; one of which nothing would be left is left out."""
        backbone, template = self.backbone, wording.item or "{input}\n{output}\n"
        asked = backbone.count(request.messages[-1].content)
        left = self.length - min(asked, int(_LEAST_REQUEST * self.length))
        left -= backbone.count(wording.joint) * max(len(items) - 1, 0) if wording.item else 0
        fitting = []
        for n, item in enumerate(items):
            share = left // (len(items) - n)
            short = self._shorten(item, template, share)
            if short is not None:
                left -= backbone.count(_written(short, template))
                fitting.append(short)
        return fitting

    def _shorten(self, item: Behavior, template: str, share: int) -> Behavior | None:
        for part in ("input", "output"):  # what was answered says more of a user than what was asked
            for _ in range(_ROUNDS):
                over = self.backbone.count(_written(item, template)) - share
                if over <= 0:
                    return item
                text: str = getattr(item, part)
                if not text or f"{{{part}}}" not in template:
                    break
                text_left = self.backbone.cut(text, max(self.backbone.count(text) - over, 0)).strip()
                if not text_left and (part == "output" or not item.output or "{output}" not in template):
                    return None
                now = {"input": item.input, "output": item.output, part: text_left}
                item = dataclasses.replace(item, input=now["input"], output=now["output"])
        return item if self.backbone.count(_written(item, template)) <= share else None


def with_examples(request: Request, items: Sequence[Behavior], wording: Wording) -> tuple[Message, ...]:
    """The request's messages with the items in them, the best item first; the messages themselves if there are none."""
    if not items:
        return request.messages
    *before, last = request.messages
    if not wording.item:
        turns = [m for b in reversed(items) for m in _turns(b)]  # the best one stands next to the request
        systems = [m for m in before if m.role == "system"]
        return (*systems, *turns, *(m for m in before if m.role != "system"), last)
    joined = wording.joint.join(_written(b, wording.item) for b in items)
    match = re.search(rf"(?<!\w){re.escape(wording.after)}(?!\w)", last.content) if wording.after else None
    if match:
        text = f"{last.content[: match.end()]} {joined}{wording.joint}{last.content[match.end() :].lstrip()}"
    else:
        text = fill(wording.whole, {"items": joined, "request": last.content}, "the task's wording")
    return (*before, dataclasses.replace(last, content=text))


def with_profile(messages: Sequence[Message], words: str) -> tuple[Message, ...]:
    """The messages with words about the user in the system message; nothing changes if there are none."""
    if not words:
        return tuple(messages)
    first, *rest = messages
    if first.role == "system":
        return (dataclasses.replace(first, content=f"{first.content}\n{words}"), *rest)
    return (Message("system", words), *messages)


def _turns(behavior: Behavior) -> tuple[Message, ...]:
    # Many chat templates insist that user and assistant take turns, so what nobody asked for has an empty question.
    return (Message("user", behavior.input), Message("assistant", behavior.output)) if behavior.output else ()


def _written(behavior: Behavior, template: str) -> str:
    values: Mapping[str, str] = {
        **behavior.fields,
        "input": behavior.input,
        "output": behavior.output,
        "rating": "" if behavior.rating is None else f"{behavior.rating:g}",
    }
    return fill(template, values, f"behaviour {behavior.id!r} of user {behavior.user!r}")
