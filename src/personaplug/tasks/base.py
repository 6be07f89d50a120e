"""What every task does: examples with leak-free histories, metrics, and how to decode."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from personaplug.core.types import Behavior, Example, Message, Request, Sampling, Split

Kind = Literal["text", "choice", "rating", "multilabel"]


@dataclass(frozen=True, slots=True)
class Wording:
    """How a user's behaviours are written into a prompt as text.

    Attributes:
        item: template over a behaviour's `input`, `output`, `rating` and its fields. Empty: items are turns of the
            conversation (what the user saw, then what they did), which chat models read as examples.
        joint: stands between two items.
        whole: template over `items` and `request`, the last message: what the model is asked.
        after: where set, items stand in the request right behind this word instead, before what it belongs to.
        profile: the instruction to a language model that writes a user's profile (PAG, arXiv 2310.20081).
    """

    item: str = ""
    joint: str = ", and "
    whole: str = "{items}. {request}"
    after: str = ""
    profile: str = (
        "Describe in two sentences how this person writes and what they like, so that others can imitate them."
    )


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """What a trained artifact must remember of its task, to ask new requests in the same words.

    Attributes:
        name: the task's name.
        kind: `text` (free), `choice` (one of the options), `rating` (a number among the options), `multilabel`.
        instruction: the system message.
        options: the closed set of answers; () for text, and where each request brings its own texts to choose among.
        metrics: names in `personaplug.metrics.scores`, the first one is the headline.
        history_text: template over a behaviour's `input`, `output`, `rating` and its fields: what encoders see of it.
        sampling: how to decode.
        wording: how behaviours are written into a prompt as text.
        headline: the metric that claims are about; by default nats a token for text, else the first of `metrics`.
        split: how train, dev and test are split: by `time` within users, or by `user` (nobody is in two of them).
    """

    name: str
    kind: Kind
    instruction: str = ""
    options: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ("rouge1",)
    history_text: str = "{input} {output}"
    sampling: Sampling = Sampling()
    wording: Wording = Wording()
    headline: str = ""
    split: Literal["time", "user"] = "time"

    def request(self, user: str | None, text: str, at: float | None = None) -> Request:
        """A new request in the task's words; `text` is also the query."""
        head = (Message("system", self.instruction),) if self.instruction else ()
        return Request(user, (*head, Message("user", text)), text, at)


class Task(ABC):
    """A source of examples. Built as `Task(config)`."""

    Config: ClassVar[type[Any]]
    summary: ClassVar[str]
    source: ClassVar[str]

    info: TaskInfo

    @abstractmethod
    def behaviors(self) -> Iterator[Behavior]:
        """Every behaviour of every user, for `ingest`."""

    @abstractmethod
    def examples(self, split: Split) -> list[Example]:
        """The split's examples, each history cut before its request; the same list at each call."""


class JudgedTask(Task):
    """A task that knows what any answer is worth to a user: not only likeness to what they once liked is measured."""

    @abstractmethod
    def judge(self, examples: Sequence[Example], answers: Sequence[str]) -> Mapping[str, tuple[float, ...]]:
        """Metric -> a number for each answer to the examples' requests; names in `metrics.JUDGED`."""


def as_option(answer: str, options: Sequence[str]) -> str | None:
    """The option that an answer is, whatever blanks stand around it and in whatever case; None where it is none.

    >>> as_option(" Sci-Fi ", ("sci-fi", "comedy"))
    'sci-fi'
    """
    text = answer.strip()
    if text in options:
        return text
    alike = [option for option in options if option.casefold() == text.casefold()]
    return alike[0] if len(alike) == 1 else None
