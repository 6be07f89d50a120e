"""The best single behaviour, chosen by the right answer: an upper bound for retrieving one, not a method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from typing_extensions import override

from personaplug.core.errors import ConfigError
from personaplug.core.types import Attribution, Example, Profile, Prompt, Request
from personaplug.methods.retrieval import Retrieval


@dataclass(frozen=True, slots=True)
class OracleConfig:
    """How much it may try.

    Attributes:
        candidates: the newest so many behaviours are tried, each alone, and none at all.
        max_length: tokens of a behaviour and the request together, as in retrieval.
        item: template of a behaviour, in place of the task's wording; "turns" makes it turns of the conversation.

    Raises:
        ConfigError: no candidate, or no length.
    """

    candidates: int = 16
    max_length: int = 512
    item: str = ""

    def __post_init__(self) -> None:
        if self.candidates < 1 or self.max_length < 1:
            raise ConfigError(
                f"oracle: candidates = {self.candidates}, max_length = {self.max_length}; expected 1 or more of each"
            )


class Oracle(Retrieval):
    """Writes the behaviour under which the frozen model finds the right answer likeliest, or none."""

    Config = OracleConfig
    summary = "the best single behaviour by the right answer: an upper bound for retrieval, in the bench alone"
    source = "as the reward of ROPG, arXiv 2404.05970, section 3, with the answer's likelihood"
    oracle = True

    @override
    def rank(self, requests: Sequence[Request], profiles: Sequence[Profile]) -> list[list[int]]:
        """What is tried, newest first: which of it is best, only the right answer tells."""
        return [list(range(len(p.history)))[::-1][: self.config.candidates] for p in profiles]

    @override
    def personalize(self, request: Request, profile: Profile) -> NoReturn:
        raise self._refusal()

    @override
    def personalize_many(self, requests: Sequence[Request], profiles: Sequence[Profile]) -> NoReturn:
        raise self._refusal()

    @override
    def personalize_examples(self, examples: Sequence[Example], profiles: Sequence[Profile]) -> list[Prompt]:
        tried: list[list[Prompt]] = []
        ranked = self.rank([e.request for e in examples], profiles)
        for example, profile, order in zip(examples, profiles, ranked, strict=True):
            # No behaviour stands first: one must be better than none to be chosen.
            items = [[], *([profile.history.behaviors[i]] for i in order)]
            prompts = [self.write(example.request, item) for item in items]
            tried.append(list({p.messages: p for p in prompts}.values()))
        scores = self.backbone.score(
            [p for prompts in tried for p in prompts],
            [e.target for e, prompts in zip(examples, tried, strict=True) for _ in prompts],
        )
        scored = iter(scores)
        return [max(prompts, key=lambda _: next(scored).logprob) for prompts in tried]

    @override
    def explain(self, request: Request, profile: Profile) -> list[Attribution]:
        """Nothing: without the right answer nothing is chosen."""
        return []

    def _refusal(self) -> ConfigError:
        return ConfigError(
            f"method {self.name!r} chooses by the right answer, which a new request does not have: it is an upper "
            "bound that only `personaplug bench` can run; choose a retrieval method such as bm25"
        )
