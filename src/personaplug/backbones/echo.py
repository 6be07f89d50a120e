"""A fake for tests: answers with the last message, and says how many soft tokens it saw."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from typing_extensions import override

from personaplug.backbones.base import Backbone
from personaplug.core.config import NoConfig
from personaplug.core.types import Completion, Conditioning, Prompt, Sampling, Scored


class EchoBackbone(Backbone):
    """No model at all: for tests of everything around one."""

    Config = NoConfig
    summary = "repeats the last message; for tests"
    source = "–"
    accepts = Conditioning.TEXT

    def __init__(self, config: Any = None) -> None:
        self.config = config
        self.key = "echo"

    @override
    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[Completion]:
        return [self._answer(p, sampling) for p in prompts]

    @override
    def stream(self, prompt: Prompt, sampling: Sampling) -> Iterator[str]:
        text = self._answer(prompt, sampling).text
        for at, word in enumerate(text.split(" ")):
            yield word if at == 0 else f" {word}"

    @override
    def score(self, prompts: Sequence[Prompt], continuations: Sequence[str]) -> list[Scored]:
        """Continuations that share words with the prompt are likelier."""
        out = []
        for prompt, text in zip(prompts, continuations, strict=True):
            seen = set(" ".join(m.content for m in prompt.messages).split())
            words = text.split()
            out.append(Scored(-float(sum(w not in seen for w in words)), max(len(words), 1)))
        return out

    @override
    def count(self, text: str) -> int:
        """Words."""
        return len(text.split())

    @override
    def cut(self, text: str, tokens: int) -> str:
        return text if self.count(text) <= tokens else " ".join(text.split()[:tokens])

    def _answer(self, prompt: Prompt, sampling: Sampling) -> Completion:
        words = prompt.messages[-1].content.split(" ")
        cut = words[: sampling.max_tokens]
        size = sum(len(m.content.split(" ")) for m in prompt.messages)
        finish = "stop" if len(cut) == len(words) else "length"
        return Completion(" ".join(cut), tuple(range(len(cut))), size, finish)  # type: ignore[arg-type]
