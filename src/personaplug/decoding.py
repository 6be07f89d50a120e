"""One answer while it is being decoded: which token next, when it ends, and how much of it may be shown."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import torch
from torch import Tensor

from personaplug.types import Sampling

_UNFINISHED = "\ufffd"  # what an incomplete UTF-8 sequence decodes to


class Choice:
    """Draws the tokens of one answer; its own generator makes it independent of its neighbours in a batch."""

    def __init__(self, sampling: Sampling, ends: Collection[int]) -> None:
        self.sampling = sampling
        self.tokens: list[int] = []
        self.finish: Literal["stop", "length"] = "length"
        self.done = sampling.max_tokens <= 0
        self._ends = ends
        self._generator = torch.Generator()
        if sampling.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(sampling.seed)

    def take(self, logits: Tensor) -> int:
        """The next token from logits [v]; an answer that is done repeats its last token, which nobody reads."""
        if self.done:
            return self.tokens[-1] if self.tokens else 0
        token = self._draw(logits)
        if token in self._ends:
            self.finish, self.done = "stop", True
        else:
            self.tokens.append(token)
            self.done = len(self.tokens) >= self.sampling.max_tokens
        return token

    def check_stop(self, text: str) -> None:
        """End the answer if its text so far holds a stop string."""
        if any(s in text for s in self.sampling.stop):
            self.finish, self.done = "stop", True

    def _draw(self, logits: Tensor) -> int:
        if self.sampling.temperature <= 0:
            return int(logits.argmax())
        probs = torch.softmax(logits.cpu() / self.sampling.temperature, dim=-1)
        if self.sampling.top_p < 1:
            ranked, order = probs.sort(descending=True)
            # The nucleus: the fewest tokens whose probability reaches top_p; the first one always stays.
            ranked[ranked.cumsum(-1) - ranked >= self.sampling.top_p] = 0
            return int(order[torch.multinomial(ranked, 1, generator=self._generator)])
        return int(torch.multinomial(probs, 1, generator=self._generator))


def visible_text(text: str, stop: tuple[str, ...], *, final: bool = True) -> str:
    """The part of an answer that may be shown: cut at the first stop string.

    While the answer grows (`final` False), a tail that could still become a stop string or the rest of a character
    is held back, so that the pieces of a stream join to the finished text.
    """
    found = [at for s in stop if (at := text.find(s)) >= 0]
    if found:
        return text[: min(found)]
    if final:
        return text
    longest = min(len(text), max(map(len, stop), default=0))
    held = next((n for n in range(longest, 0, -1) if _begins(text[-n:], stop)), 0)
    text = text[: len(text) - held]
    return text.rstrip(_UNFINISHED)


def _begins(tail: str, stop: tuple[str, ...]) -> bool:
    return any(s.startswith(tail) for s in stop)
