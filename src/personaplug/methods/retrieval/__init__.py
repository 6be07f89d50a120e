"""What every retrieval method does: rank a user's behaviours for a request and write the best into the prompt."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from typing_extensions import override

from personaplug.core import registry
from personaplug.core.errors import ConfigError
from personaplug.core.types import Attribution, Behavior, Profile, Prompt, Request
from personaplug.methods.base import Method
from personaplug.methods.prompts.wording import TokenBudget, with_examples
from personaplug.tasks.base import Wording


@dataclass(frozen=True, slots=True)
class RetrievalConfig:
    """How much of a history goes into a prompt.

    Attributes:
        k: behaviours at most.
        max_length: tokens of behaviours and request together (the request keeps up to 60% of them and is never cut).
        item: template of one behaviour, in place of the task's wording; "turns" makes them turns of the conversation.

    Raises:
        ConfigError: a negative k, or no length.
    """

    k: int = 4
    max_length: int = 512
    item: str = ""

    def __post_init__(self) -> None:
        if self.k < 0 or self.max_length < 1:
            raise ConfigError(
                f"retrieval: k = {self.k}, max_length = {self.max_length}; expected k >= 0 and max_length >= 1"
            )


class Retrieval(Method):
    """The best k behaviours by `rank`, as text in the messages."""

    config: Any

    @abstractmethod
    def rank(self, requests: Sequence[Request], profiles: Sequence[Profile]) -> list[list[int]]:
        """For each request, indices into the user's history, the best first: at least the best k, or all there are."""

    def select(self, requests: Sequence[Request], profiles: Sequence[Profile]) -> list[list[Behavior]]:
        """The best k behaviours of each."""
        ranked = self.rank(requests, profiles)
        return [[p.history.behaviors[i] for i in r[: self.config.k]] for r, p in zip(ranked, profiles, strict=True)]

    @property
    def wording(self) -> Wording:
        """How items are written."""
        return chosen_wording(self.task.wording if self.task else Wording(), self.config.item)

    @override
    def personalize(self, request: Request, profile: Profile) -> Prompt:
        return self.personalize_many([request], [profile])[0]

    @override
    def personalize_many(self, requests: Sequence[Request], profiles: Sequence[Profile]) -> list[Prompt]:
        return [self.write(r, items) for r, items in zip(requests, self.select(requests, profiles), strict=True)]

    def write(self, request: Request, items: Sequence[Behavior]) -> Prompt:
        """The prompt with these items in it."""
        fitting = TokenBudget(self.config.max_length, self.backbone).fit(items, request, self.wording)
        return Prompt(with_examples(request, fitting, self.wording))

    @override
    def explain(self, request: Request, profile: Profile) -> list[Attribution]:
        [items] = self.select([request], [profile])
        return [Attribution(b, 1.0 / len(items)) for b in items]


def chosen_wording(wording: Wording, item: str) -> Wording:
    """The task's wording, or one with another way of writing an item."""
    return replace(wording, item="" if item == "turns" else item) if item else wording


def plain_ranker(name: str, what: str) -> type[Retrieval]:
    """The retrieval method of a name that stands among the rankers of another method, `what`.

    Raises:
        ConfigError: it is another kind of method, or one that must be trained or looks at the answer.
    """
    ranker: type[Any] = registry.find("method", name)
    if not issubclass(ranker, Retrieval) or ranker.trained or ranker.oracle:
        raise ConfigError(
            f"method {what!r}: {name!r} among its rankers is no plain ranker; take bm25, dense, recent, ..."
        )
    return ranker
