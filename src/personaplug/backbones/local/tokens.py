"""What backbones share whose prompts are tokenized and embedded here, wherever the rest of the model runs.

Shapes: n: tokens, k: prefix tokens, t: both together, d: the model's width.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from personaplug.backbones.base import SoftBackbone
from personaplug.backbones.local.chat import ControlWords, cut_text, end_of_turn
from personaplug.core.errors import DataError
from personaplug.core.types import Message, Prompt

_REMEMBERED = 50_000  # tokenized conversations stored: a training set's worth


class TokenizedBackbone(SoftBackbone):
    """A backbone with its tokenizer and its token embeddings on this machine.

    Args:
        key: identity of the weights.
        tokenizer: the model's tokenizer.
        embedding: the model's layer of token embeddings, on its device.
        dtype: of the prefixes that the model reads.
        context: tokens that the model reads at most.
    """

    def __init__(self, key: str, tokenizer: Any, embedding: Any, dtype: torch.dtype, context: int) -> None:
        self.key = key
        self.tokenizer = tokenizer
        self.control_words = ControlWords(tokenizer)
        self.end_of_turn = end_of_turn(tokenizer)
        self.embedding = embedding
        self.dtype = dtype
        self.context = context
        self.device = embedding.weight.device
        self.width = int(embedding.weight.shape[1])
        self.token_norm = mean_token_norm(embedding)
        self.remembers = _REMEMBERED
        self._remembered: dict[tuple[Message, ...], list[int]] = {}

    @abstractmethod
    def _text(self, messages: Sequence[Message]) -> str:
        """A conversation as the model reads it, up to where the answer begins."""

    def text_ids(self, text: str) -> list[int]:
        """Token ids of somebody's text: control words in it are words."""
        return list(self.tokenizer(self.control_words.broken(text), add_special_tokens=False).input_ids)

    def prompt_ids(self, messages: tuple[Message, ...]) -> list[int]:
        """Token ids of a conversation up to where the answer begins.

        Raises:
            DataError: no token, more tokens than the model reads, or turns that the chat template does not take.
        """
        ids = self._remembered.get(messages)
        if ids is None:
            special = not self.tokenizer.chat_template
            plain = [replace(m, content=self.control_words.broken(m.content)) for m in messages]
            ids = list(self.tokenizer(self._text(plain), add_special_tokens=special).input_ids)
            if not ids:
                raise DataError(f"a prompt has no token for {self.key!r}; write something into its messages")
            if len(ids) >= self.context:
                raise DataError(
                    f"a prompt has {len(ids)} tokens, but {self.key!r} reads at most {self.context}; shorten it"
                )
            if max(ids) >= len(self.embedding.weight):
                raise DataError(
                    f"{self.key!r} embeds {len(self.embedding.weight)} tokens, but its tokenizer gives token "
                    f"{max(ids)}; take the tokenizer that the model was saved with"
                )
            if len(self._remembered) >= self.remembers:
                with suppress(RuntimeError, StopIteration):  # another thread is at it
                    self._remembered.pop(next(iter(self._remembered)), None)
            self._remembered[messages] = ids
        return ids

    @override
    def forget_prompts(self) -> int:
        self._remembered = {}
        return 0

    @override
    def count(self, text: str) -> int:
        return len(self.text_ids(text))

    @override
    def cut(self, text: str, tokens: int) -> str:
        return cut_text(self.tokenizer, text, tokens)

    def left_length(self, prompt: Prompt) -> int:
        """Tokens of a prompt, its prefix included."""
        soft = 0 if prompt.prefix is None else len(prompt.prefix)
        return len(self.prompt_ids(prompt.messages)) + soft

    def embed(self, ids: Sequence[int]) -> Tensor:
        """The model's own embeddings [n, d] of token ids."""
        return self.embedding(torch.tensor(ids, dtype=torch.long, device=self.device))

    @override
    def words(self, text: str) -> Tensor:
        return self.embed(self.text_ids(text))

    def soft(self, prompt: Prompt) -> Tensor:
        """The prompt's soft tokens [k, d] as the model reads them.

        Raises:
            DataError: they are not as wide as the model.
        """
        prefix = torch.as_tensor(prompt.prefix).to(self.device, self.dtype)
        if prefix.ndim != 2 or prefix.shape[1] != self.width:
            raise DataError(f"a prefix has shape {tuple(prefix.shape)}, but {self.key!r} reads [k, {self.width}]")
        return prefix


def with_prefix(embeds: Tensor, prefix: Tensor, position: str) -> Tensor:
    """A prompt's embeddings [n, d] with its prefix [k, d] in its place: [t, d]."""
    return torch.cat([embeds, prefix] if position == "last" else [prefix, embeds])


@torch.no_grad()
def mean_token_norm(embedding: Any) -> float:
    """Mean L2 norm of what the embedding layer returns for each token (some models scale inside it)."""
    vocabulary = torch.arange(embedding.weight.shape[0], device=embedding.weight.device)
    return float(torch.cat([embedding(ids).float().norm(dim=-1) for ids in vocabulary.split(8192)]).mean())
