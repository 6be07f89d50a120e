"""The nouns that every other file speaks in; plain frozen data, no torch.

Shapes: k: persona tokens, d: the language model's width.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Flag, auto
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal

from personaplug.core.errors import ConfigError, DataError
from personaplug.core.names import LONGEST_ID, has_half_surrogate, name_fault, quoted, user_fault
from personaplug.core.times import utc_seconds

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Role = Literal["system", "user", "assistant"]
Split = Literal["train", "dev", "test"]
State = Mapping[str, "NDArray[np.generic]"]  # what a method stores of a user: named arrays

MAX_STRENGTH = 10.0
"""Beyond, answers are noise."""


@dataclass(frozen=True, slots=True)
class Behavior:
    """One thing a user did: given `input`, they wrote or chose `output`.

    Attributes:
        user: whose behaviour it is; see `core.names` for what is a name.
        id: unique within the user; adding the same id twice adds nothing.
        input: what the user saw or was asked; may be empty.
        output: what the user wrote or chose.
        at: UTC seconds since 1970, or None if unknown. What else `core.times` reads (milliseconds, a date, ISO-8601
            text) may be passed and becomes UTC seconds.
        rating: how much the user liked it, in [0, 1], or None.
        fields: anything else, as strings (`title`, `conversation`, ...).

    Raises:
        DataError: a user, id or field that is no name, no text at all, a text that nothing can encode, or a number out
            of its range.
    """

    user: str
    id: str
    input: str
    output: str
    at: float | None = None
    rating: float | None = None
    fields: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for fault in _faults(self):
            raise DataError(f"{self._label}: {fault}")
        if self.rating is not None and not _in_unit(self.rating):
            raise DataError(f"{self._label}: rating is {quoted(self.rating)}, expected a number in [0, 1]")
        if self.at is not None:
            try:
                object.__setattr__(self, "at", utc_seconds(self.at))
            except ValueError as error:
                raise DataError(f"{self._label}: at is {quoted(self.at)}, {error}") from None

    @property
    def _label(self) -> str:
        return f"behaviour {quoted(self.id)} of user {quoted(self.user)}"

    @classmethod
    def from_store(cls, *values: Any) -> Behavior:
        """A behaviour from a store's row, without the checks: what an older version took stays readable."""
        behavior = object.__new__(cls)
        for name, value in zip(cls.__slots__, values, strict=True):
            object.__setattr__(behavior, name, value)
        return behavior


def _faults(b: Behavior) -> Iterator[str]:
    """What is wrong with a behaviour's names and texts, the first fault first."""
    texts: dict[str, object] = {"user": b.user, "id": b.id, "input": b.input, "output": b.output}
    for name, text in texts.items():
        if not isinstance(text, str):
            yield f"{name} is {quoted(text)}, expected a string"
    if not b.user or not b.id:
        yield "user and id must not be empty"
    if fault := user_fault(b.user):
        yield f"the user's name {fault}; rename them"
    if fault := name_fault(b.id, LONGEST_ID):
        yield f"the id {fault}; give it another id"
    if not b.input and not b.output:
        yield "both input and output are empty"
    fields: Mapping[Any, object] = b.fields
    for name, value in fields.items():
        if not isinstance(name, str) or not isinstance(value, str):
            yield f"field {quoted(name)} is {quoted(value)}, expected a string"
        if fault := name_fault(name):
            yield f"the name of the field {quoted(name)} {fault}; rename it"
    if any(map(has_half_surrogate, (b.input, b.output, *b.fields.values()))):
        yield "half a surrogate pair (\\ud800-\\udfff) is not text; write the character itself"


def _in_unit(rating: object) -> bool:
    """Whether it is a number in [0, 1]; NumPy's numbers are numbers, True is none."""
    return type(rating) is not bool and isinstance(rating, Real) and 0.0 <= float(rating) <= 1.0


@dataclass(frozen=True, slots=True)
class History:
    """A user's behaviours, oldest first; `version` rises with each change of the stored history."""

    user: str
    behaviors: tuple[Behavior, ...] = ()
    version: int = 0

    def __len__(self) -> int:
        return len(self.behaviors)

    def __iter__(self) -> Iterator[Behavior]:
        return iter(self.behaviors)

    def before(self, at: float) -> History:
        """The behaviours strictly before `at` (UTC seconds); undated ones are left out, since they could leak."""
        earlier = tuple(b for b in self.behaviors if b.at is not None and b.at < at)
        return History(self.user, earlier, self.version)

    def last(self, n: int) -> History:
        """The newest `n` behaviours, oldest first."""
        return History(self.user, self.behaviors[-n:] if n > 0 else (), self.version)

    def extends(self, other: History) -> bool:
        """Whether this history begins with all behaviours of `other`; equal histories extend each other."""
        return self.user == other.user and self.behaviors[: len(other)] == other.behaviors

    @property
    def digest(self) -> str:
        """Content hash (16 hex digits) of the behaviours: equal digests mean equal prepared states."""
        h = hashlib.blake2b(digest_size=8)
        for b in self.behaviors:
            for part in (b.id, b.input, b.output, str(b.rating), *(f"{k}={v}" for k, v in sorted(b.fields.items()))):
                data = part.encode()
                h.update(len(data).to_bytes(8, "little") + data)
        return h.hexdigest()


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Request:
    """What a user asks now.

    Attributes:
        user: who asks; None is the unknown user.
        messages: the conversation so far; the last one is what is to be answered.
        query: what encoders and rankers look at; by default the last user message.
        at: UTC seconds of the request, or None for now.
    """

    user: str | None
    messages: tuple[Message, ...]
    query: str = ""
    at: float | None = None

    def __post_init__(self) -> None:
        if not self.messages:
            raise DataError(f"request of user {self.user!r}: no messages; give at least one")
        if not self.query:
            last = next((m.content for m in reversed(self.messages) if m.role == "user"), self.messages[-1].content)
            object.__setattr__(self, "query", last)

    @staticmethod
    def of(user: str | None, text: str, system: str | None = None) -> Request:
        """A request of one user message, after an optional system message."""
        head = (Message("system", system),) if system else ()
        return Request(user, (*head, Message("user", text)))


class Conditioning(Flag):
    """The ways to condition a frozen model: text, soft tokens, an adapter; what a prompt needs, a backbone accepts."""

    TEXT = auto()
    PREFIX = auto()
    ADAPTER = auto()

    def __str__(self) -> str:
        return "+".join(n.name.lower() for n in Conditioning if n in self and n.name) or "nothing"


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a method hands to a backbone.

    Attributes:
        messages: the conversation, with any text that the method added.
        prefix: soft tokens [k, d] (array or tensor; gradients flow through a tensor), or None.
        position: where the prefix stands: `first` (before everything, as in the paper) or `last` (right before the
            answer), which decoder-only backbones take.
        adapter: the name of an adapter on the weights, or None.
        bias: of a closed set of answers, nats added to the score of each; empty where nothing is added.
        unconditional: what the same method hands over of the same request for nobody: what `Sampling.strength` starts
            from; None where strength changes nothing.
    """

    messages: tuple[Message, ...]
    prefix: Any | None = None
    position: Literal["first", "last"] = "first"
    adapter: str | None = None
    bias: Mapping[str, float] = field(default_factory=dict)
    unconditional: Prompt | None = None

    @property
    def needs(self) -> Conditioning:
        """What a backbone must accept to answer this prompt."""
        needs = Conditioning.TEXT
        if self.prefix is not None:
            needs |= Conditioning.PREFIX
        if self.adapter is not None:
            needs |= Conditioning.ADAPTER
        return needs


@dataclass(frozen=True, slots=True)
class Profile:
    """A user's history with what a method prepared from it (None where the method prepares nothing)."""

    history: History
    state: State | None = None


@dataclass(frozen=True, slots=True)
class Example:
    """A request with its right answer; `history` is cut before the request, so a task cannot leak.

    Attributes:
        id: unique within the task.
        request: what is asked.
        history: the user's past up to the request.
        target: what the user really wrote or chose.
        options: what `target` is chosen from: the task's closed set or the request's own; () for free text.
        disliked: an answer to this request that the user likes less than `target`; "" where none is known.
    """

    id: str
    request: Request
    history: History
    target: str
    options: tuple[str, ...] = ()
    disliked: str = ""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to decode.

    Attributes:
        max_tokens: of the answer.
        temperature: 0 is greedy.
        top_p: draw from the likeliest tokens alone that have this much probability together.
        stop: strings that end the answer and are cut off.
        seed: of the draws.
        strength: of the persona (classifier-free guidance, arXiv 2306.17806): next-token log-probabilities are
            nobody + strength · (persona - nobody). 1: as trained and measured, 0: nobody; above 1 the persona is
            exaggerated, among the tokens alone that have at least 5% of its likeliest one's probability.
        no_repeat_ngram: no sequence of so many tokens comes up twice in the answer; 0: no such rule.
        repetition_penalty: divides (or, below 0, multiplies) the logits of tokens that the answer has; 1: no penalty
            (CTRL, arXiv 1909.05858).
    """

    max_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None
    strength: float = 1.0
    no_repeat_ngram: int = 0
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        if not (0.0 <= self.strength <= MAX_STRENGTH):
            raise ConfigError(f"sampling: strength = {self.strength}; expected a number from 0 to {MAX_STRENGTH:g}")
        if self.no_repeat_ngram < 0 or not 0.0 < self.repetition_penalty < math.inf:
            raise ConfigError(
                f"sampling: no_repeat_ngram = {self.no_repeat_ngram}, repetition_penalty = {self.repetition_penalty}; "
                "expected 0 or more, and a number above 0"
            )


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token that was drawn with its log-probability (nats), and the likeliest ones in its place, likeliest first."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The next part of a streamed answer; `logprobs` are those of its tokens, if they were requested."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """A generated answer: its text, its token ids, the number of prompt tokens and why it ended."""

    text: str
    tokens: tuple[int, ...]
    prompt_tokens: int
    finish_reason: Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Scored:
    """Sum of log-probabilities (nats) of a continuation and its number of tokens."""

    logprob: float
    tokens: int


@dataclass(frozen=True, slots=True)
class Attribution:
    """How much one behaviour contributes to a persona, in [0, 1]; the weights of a persona sum to 1."""

    behavior: Behavior
    weight: float
