"""What backbones do alike whose answers a server elsewhere gives: several requests side by side, and no scores."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence

from typing_extensions import override

from personaplug.backbones.base import Backbone
from personaplug.backbones.remote.client import Remote
from personaplug.core.types import Completion, Prompt, Sampling, Scored


class RemoteBackbone(Backbone):
    """A backbone that asks a server for each answer."""

    scores = False
    _remote: Remote

    @abstractmethod
    def _answer(self, prompt: Prompt, sampling: Sampling) -> Completion:
        """One answer of the server's."""

    @abstractmethod
    @override
    def follow(self, prompt: Prompt, sampling: Sampling) -> Iterator[str | Completion]: ...

    @override
    def stream(self, prompt: Prompt, sampling: Sampling) -> Iterator[str]:
        return (said for said in self.follow(prompt, sampling) if isinstance(said, str))

    @override
    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[Completion]:
        return self._remote.each(lambda prompt: self._answer(prompt, sampling), prompts)

    @override
    def score(self, prompts: Sequence[Prompt], continuations: Sequence[str]) -> list[Scored]:
        """Nothing: chats give no likelihood of given words, nor does vLLM of prompts that are sent as embeddings.

        Raises:
            MismatchError: something is to be scored.
        """
        if prompts:
            self.check_scores("scoring")
        return []
