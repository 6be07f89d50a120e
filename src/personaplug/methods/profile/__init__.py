"""What every method does that says something about a user in words: words once a history, said in each request."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from typing_extensions import override

from personaplug.core.types import Attribution, History, Profile, Prompt, Request, State
from personaplug.methods.base import OnTopOfText, text_needs_encoder
from personaplug.methods.prompts.wording import with_profile

_LEAD = "About this user: "
_NAME = "profile"  # of the array of a state that holds the words, as UTF-8 bytes


@dataclasses.dataclass(frozen=True, slots=True)
class ProfileConfig:
    """What stands in a prompt besides the words about the user.

    Attributes:
        text: section of a method that also writes behaviours, for example {name = "bm25", k = 1}; {} for the words
            alone.
    """

    text: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class Profiled(OnTopOfText):
    """Words about the user in the system message, on top of what a text method writes."""

    @abstractmethod
    def describe(self, histories: Sequence[History]) -> list[str]:
        """What is said of each user; "" where nothing can be said, always so of an empty history."""

    @property
    @override
    def history_templates(self) -> tuple[str, ...]:
        return self.text.history_templates if self.text else ()

    @classmethod
    @override
    def needs_encoder(cls, config: Any) -> bool:
        return text_needs_encoder(config.text)

    @override
    def prepare(self, history: History) -> State | None:
        return self.prepare_many([history])[0]

    @override
    def prepare_many(self, histories: Sequence[History]) -> list[State | None]:
        own = [{_NAME: np.frombuffer(w.encode(), np.uint8)} if h.behaviors else None
               for h, w in zip(histories, self.describe(histories), strict=True)]  # fmt: skip
        return self.with_text_states(own, histories)

    @override
    def personalize(self, request: Request, profile: Profile) -> Prompt:
        return self.personalize_many([request], [profile])[0]

    @override
    def personalize_many(self, requests: Sequence[Request], profiles: Sequence[Profile]) -> list[Prompt]:
        written = self.text_requests(requests, profiles)
        said = self._words(profiles)
        return [
            Prompt(with_profile(r.messages, words and _LEAD + words)) for r, words in zip(written, said, strict=True)
        ]

    @override
    def explain(self, request: Request, profile: Profile) -> list[Attribution]:
        """The behaviours that the text method wrote; the words are of all of them."""
        return self.text.explain(request, Profile(profile.history)) if self.text else []

    def _words(self, profiles: Sequence[Profile]) -> list[str]:
        """The stored words, or new ones for users who were not prepared."""
        stored = [(p.state or {}).get(_NAME) for p in profiles]
        new = iter(self.describe([p.history for p, s in zip(profiles, stored, strict=True) if s is None]))
        return [next(new) if s is None else s.tobytes().decode() for s in stored]
