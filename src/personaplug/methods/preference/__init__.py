"""What methods of liked and disliked answers share: examples of them written into a prompt, within a budget.

Shapes: n: behaviours, e: the encoder's width.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from personaplug.backbones.base import Backbone
from personaplug.core.errors import ConfigError
from personaplug.core.types import Behavior, Message, Profile, Prompt, Request
from personaplug.data.feedback import preference
from personaplug.encoders.cache.embeddings import VectorCache
from personaplug.methods.base import Method
from personaplug.methods.retrieval.ranking import best
from personaplug.tasks.base import TaskInfo

Show = Literal["liked", "both", "disliked", "mislabelled"]

PROMPT_TEXT = "{input}"
"""What an encoder sees of a prompt."""
ANSWER_TEXT = "{input} {output}"
"""What it sees of an answer, always with its prompt."""

_LEADS = {
    "liked": "Earlier messages of this user, with answers that they liked:",
    "both": "Earlier messages of this user, with answers that they liked or disliked:",
    "disliked": "Earlier messages of this user, with answers that they disliked:",
}
_ASKS = {
    "liked": "Answer their next message in the way of the answers that they liked.",
    "both": "Answer their next message in the way of the answers that they liked, and unlike those that they disliked.",
    "disliked": "Answer their next message unlike the answers that they disliked.",
}
_PARTS = 3  # a shot has a prompt and up to two answers


@dataclass(frozen=True, slots=True)
class ShotsConfig:
    """What of the feedback is shown.

    Attributes:
        k: shots at most.
        show: `liked` answers, `disliked` ones, `both`, or disliked ones that are said to be liked (`mislabelled`, a
            control).
        max_length: tokens of all shots; those farthest from the request are left out first.
        match: template of what of a piece of feedback is compared with the request: its `input`, the prompt; where all
            prompts are the same, its `output`, the answer that was liked.
    """

    k: int = 3
    show: Show = "liked"
    max_length: int = 2048
    match: str = PROMPT_TEXT

    def __post_init__(self) -> None:
        if self.k < 0 or self.max_length < 1:
            raise ConfigError(f"shots: k = {self.k}, max_length = {self.max_length}; expected k >= 0, max_length >= 1")


class Shots(Method):
    """The best k pieces of feedback by `select`, described in the last message; the best one next to the request."""

    config: Any

    def __init__(
        self, config: Any, *, backbone: Backbone, vectors: VectorCache | None = None, task: TaskInfo | None = None
    ) -> None:
        super().__init__(config, backbone=backbone, vectors=vectors, task=task)
        self.needed_vectors()  # refused when built, not when a request comes

    @abstractmethod
    def select(self, requests: Sequence[Request], profiles: Sequence[Profile]) -> list[list[Behavior]]:
        """What is shown for each request, the best first."""

    @classmethod
    @override
    def needs_encoder(cls, config: Any) -> bool:
        del config
        return True

    @override
    def personalize(self, request: Request, profile: Profile) -> Prompt:
        return self.personalize_many([request], [profile])[0]

    @override
    def personalize_many(self, requests: Sequence[Request], profiles: Sequence[Profile]) -> list[Prompt]:
        return [self._write(r, items) for r, items in zip(requests, self.select(requests, profiles), strict=True)]

    def _write(self, request: Request, items: Sequence[Behavior]) -> Prompt:
        show, length = self.config.show, self.config.max_length
        shots = within([shot(b, show) for b in items], length, self.backbone)
        if not shots and items and length >= _PARTS:
            shots = [shot(_cut(items[0], length // _PARTS, self.backbone), show)]
        return Prompt(with_shots(request, shots, show))


def usable(behavior: Behavior, show: Show) -> bool:
    """Whether a behaviour says what is to be shown.

    >>> usable(Behavior("ada", "1", "q", "bad", rating=0.0), "liked")
    False
    """
    said = preference(behavior)
    if show == "both":
        return bool(said.liked or said.disliked)
    return bool(said.liked if show == "liked" else said.disliked)


def shot(behavior: Behavior, show: Show) -> str:
    """A piece of feedback in words."""
    said = preference(behavior)
    lines = [f"User: {said.prompt}"]
    if show in ("liked", "both") and said.liked:
        lines.append(f"Liked answer: {said.liked}")
    if show in ("disliked", "both") and said.disliked:
        lines.append(f"Disliked answer: {said.disliked}")
    if show == "mislabelled":
        lines.append(f"Liked answer: {said.disliked}")
    return "\n".join(lines)


def within(shots: Sequence[str], tokens: int, backbone: Backbone) -> list[str]:
    """The first shots that fit together."""
    fitting = []
    for text in shots:
        tokens -= backbone.count(text)
        if tokens < 0:
            break
        fitting.append(text)
    return fitting


def with_shots(request: Request, shots: Sequence[str], show: Show) -> tuple[Message, ...]:
    """The request's messages with the shots, the best first, in the last one; as they are if there are none."""
    if not shots:
        return request.messages
    *before, last = request.messages
    said = "liked" if show == "mislabelled" else show
    parts = [_LEADS[said], *reversed(shots), _ASKS[said], f"User: {last.content}"]
    return (*before, dataclasses.replace(last, content="\n\n".join(parts)))


def nearest(scores: NDArray[np.floating], allowed: Sequence[bool], k: int) -> list[int]:
    """Indices of the k highest of n scores among those allowed, the highest first; of equal ones the newer."""
    masked = np.where(np.asarray(allowed, dtype=bool), scores.round(5), -np.inf)
    return [i for i in best(masked, k) if masked[i] > -np.inf]


def _cut(behavior: Behavior, tokens: int, backbone: Backbone) -> Behavior:
    """A behaviour of which each text is cut to so many tokens."""
    fields = {k: backbone.cut(v, tokens) for k, v in behavior.fields.items()}
    short = backbone.cut(behavior.input, tokens), backbone.cut(behavior.output, tokens)
    return dataclasses.replace(behavior, input=short[0], output=short[1], fields=fields)
