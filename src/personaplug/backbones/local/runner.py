"""One call of a transformers decoder over embeddings, whatever its family names its cache and its arguments.

Shapes: b: rows, t: columns, d: the model's width, v: vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from threading import local
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


@dataclass(slots=True)
class Columns:
    """Columns of a batch that are to run.

    Attributes:
        ids: token ids [b, t]; the padding token's at soft tokens and at padding.
        embeds: embeddings [b, t, d].
        mask: [b, t], 0 at padding.
    """

    ids: Tensor
    embeds: Tensor
    mask: Tensor

    def __getitem__(self, at: Any) -> Columns:
        return Columns(self.ids[at], self.embeds[at], self.mask[at])

    def then(self, others: Columns) -> Columns:
        """These columns with others on their right."""
        pairs = ((self.ids, others.ids), (self.embeds, others.embeds), (self.mask, others.mask))
        return Columns(*(torch.cat(pair, dim=1) for pair in pairs))


class Output(NamedTuple):
    """What a call gave: logits [b, last, v] in float32, and the model's own cache, if one was asked for."""

    logits: Tensor
    cache: Any


class ModelRunner:
    """Calls a model over columns.

    Args:
        model: a transformers model with a language-model head, on its device.

    Attributes:
        reads_ids: hand the model token ids and put the embeddings in place of what it looks up. For families that use
            the ids a second time (embeddings for each layer); soft tokens then count as padding there.
    """

    def __init__(self, model: Any) -> None:
        from transformers.generation.utils import ALL_CACHE_NAMES

        self.model = model
        self.embedding = model.get_input_embeddings()
        self.reads_ids = False
        self._arguments = set(inspect.signature(model.forward).parameters)
        self._cache_name = next((name for name in ALL_CACHE_NAMES if name in self._arguments), "past_key_values")
        padding = getattr(model.config.get_text_config(decoder=True), "pad_token_id", None)
        self.padding = padding if isinstance(padding, int) and 0 <= padding < self.embedding.weight.shape[0] else 0
        self._given = local()
        self.embedding.register_forward_hook(self._put_in_place)

    def _put_in_place(self, _module: Any, _args: Any, looked_up: Tensor) -> Tensor | None:
        embeds: Tensor | None = getattr(self._given, "embeds", None)
        return embeds if embeds is not None and embeds.shape == looked_up.shape else None

    def run(
        self, columns: Columns, cache: Any = None, mask: Tensor | None = None, *, keep: bool = False, last: int = 1
    ) -> Output:
        """Run columns after those of a cache.

        Args:
            columns: what is read.
            cache: the model's own, of the columns before.
            mask: [b, columns of the cache + t]. None for one row without padding: then the model counts positions in
                its own way, which is what every other way is compared with.
            keep: give the cache back, grown.
            last: of so many last columns the logits are wanted.
        """
        inputs: dict[str, Any] = {"use_cache": keep, "logits_to_keep": last}
        if mask is not None:
            inputs["attention_mask"] = mask
            inputs["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)[:, -columns.embeds.shape[1] :]
        inputs = {name: value for name, value in inputs.items() if name in self._arguments}
        if cache is not None:
            inputs[self._cache_name] = cache
        if self.reads_ids:
            self._given.embeds = columns.embeds
            try:
                out = self.model(input_ids=columns.ids, **inputs)
            finally:
                self._given.embeds = None
        else:
            out = self.model(inputs_embeds=columns.embeds, **inputs)
        return Output(out.logits[:, -last:].float(), getattr(out, self._cache_name, None) if keep else None)

    # -- columns ------------------------------------------------------------------------------------------------------

    def words(self, ids: Sequence[int]) -> Columns:
        """A row of token ids."""
        at = torch.tensor([list(ids)], dtype=torch.long, device=self.embedding.weight.device)
        return Columns(at, self.embedding(at), torch.ones_like(at))

    def soft(self, prefix: Tensor) -> Columns:
        """A row of soft tokens [k, d]."""
        ids = torch.full((1, len(prefix)), self.padding, dtype=torch.long, device=prefix.device)
        return Columns(ids, prefix[None], torch.ones_like(ids))

    def padded(self, rows: Sequence[Columns], side: str = "left") -> Columns:
        """Rows as one batch, padded on one side."""
        if len(rows) == 1:
            return rows[0]
        ids = pad_sequence([row.ids[0] for row in rows], True, self.padding, side)
        embeds = pad_sequence([row.embeds[0] for row in rows], True, 0.0, side)
        return Columns(ids, embeds, pad_sequence([row.mask[0] for row in rows], True, 0, side))
