"""Training a plug: the trained modules with everything that a batch of requests needs.

Shapes: b: batch, n: behaviours (padded), v·e: a behaviour's views side by side, i + k: prefix tokens, d: model width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from personaplug.core.types import Behavior, Example, History, Prompt
from personaplug.plug.model import drop_history
from personaplug.training import objectives
from personaplug.training.trainer import Draw, Length

if TYPE_CHECKING:
    from personaplug.methods.plug import PlugMethod


class Fitting(nn.Module):
    """Its parameters are exactly those to train and save.

    Args:
        method: the method, with fresh weights.
        examples: training requests, then development requests.
        plain: the same without the text method's messages, where a gate decides between the two; each use of a training
            request then sees either, by its seed.
    """

    def __init__(self, method: PlugMethod, examples: Sequence[Example], plain: Sequence[Example] = ()) -> None:
        super().__init__()
        self.plug = method.plug
        self.query_encoder = method.query_encoder
        # In a tuple, torch does not see the method's own modules twice.
        self._parts = (method, method.config)
        self.examples = examples
        self.plain = plain
        self.lengths = self._lengths(method)
        self.teachers = method.taught(examples)
        self.rows, self.matrix = self._history_matrix(method)
        self.frozen_queries = self._query_matrix(method)

    def _lengths(self, method: PlugMethod) -> list[Length]:
        """With a late persona the prompt runs without gradients; else everything keeps activations."""
        prompts = [Prompt(e.request.messages) for e in self.examples]
        whole = method.trainable.lengths(prompts, [e.target for e in self.examples])
        if method.config.position != "last":
            return [(n, 0) for n in whole]
        before = method.trainable.lengths(prompts, [""] * len(prompts))
        return [(n - m, m) for n, m in zip(whole, before, strict=True)]

    def _history_matrix(self, method: PlugMethod) -> tuple[list[Tensor], Tensor]:
        """Each behaviour's vector once [N, v·e] (float16, as stored), and each example's rows of it."""
        if not method.config.persona_tokens:
            wide = method.encoder_width * method.config.views
            return [torch.zeros(0, dtype=torch.long)] * len(self.examples), torch.zeros(0, wide)
        at: dict[tuple[str, str], int] = {}
        behaviors: list[Behavior] = []
        rows = []
        for example in self.examples:
            mine = []
            for b in example.history:
                row = at.setdefault((b.user, b.id), len(at))
                if row == len(behaviors):
                    behaviors.append(b)
                mine.append(row)
            rows.append(torch.tensor(mine, dtype=torch.long))
        return rows, method.views(History("", tuple(behaviors))).cpu().half()

    def _query_matrix(self, method: PlugMethod) -> Tensor | None:
        if not method.config.wants_query or method.query_encoder is not None:
            return None
        return method.queries([e.request.query for e in self.examples]).cpu()

    def rows_of(self, count: int) -> Tensor:
        """The distinct rows of the first `count` examples' histories."""
        return torch.cat(self.rows[:count]).unique()

    def users(self, count: int) -> list[Tensor]:
        """The vectors [n, v·e] of the longest history of each user of the first `count` examples."""
        longest: dict[str, Tensor] = {}
        for example, rows in zip(self.examples[:count], self.rows, strict=False):
            user = example.history.user
            if len(rows) > len(longest.get(user, ())):
                longest[user] = rows
        device = self.plug.center.device
        return [self.matrix[rows].to(device).float() for rows in longest.values()]

    def collate(self, draws: list[Draw]) -> dict[str, Any]:
        """A batch: which examples, their histories' vectors [b, n, v·e] and mask [b, n], queries [b, e] or None."""
        config = self._parts[1]
        picked = []
        for draw in draws:
            rows = self.rows[draw.index]
            if draw.seed:
                rows = rows[drop_history(len(rows), config, torch.Generator().manual_seed(draw.seed))]
            else:
                rows = rows[-config.max_history :]
            picked.append(self.matrix[rows].float())
        index = torch.tensor([d.index for d in draws])
        return {
            "index": index,
            "seeds": torch.tensor([d.seed for d in draws]),
            "vectors": pad_sequence(picked, batch_first=True),
            "mask": pad_sequence([torch.ones(len(p), dtype=torch.bool) for p in picked], batch_first=True),
            "query": None if self.frozen_queries is None else self.frozen_queries[index],
        }

    def forward(
        self, index: Tensor, vectors: Tensor, mask: Tensor, query: Tensor | None, seeds: Tensor | None = None
    ) -> Tensor:
        """Loss of each request [b]."""
        method, config = self._parts
        at = index.tolist()
        picked = [self.examples[i] for i in at]
        if self.plain and seeds is not None:
            picked = [self.plain[i] if s % 2 else e for i, s, e in zip(at, seeds.tolist(), picked, strict=True)]
        if self.query_encoder is not None and config.wants_query:
            query = method.queries([e.request.query for e in picked])
        prefix = self.plug(vectors, mask, query).prefix
        loss = self._learnt(picked, prefix)
        if self.teachers:
            taught = [self.teachers[i] for i in at]
            targets = [e.target for e in picked]
            loss = loss + method.trainable.divergence(self._prompts(picked, prefix), taught, targets)
        return loss

    def _prompts(self, examples: Sequence[Example], prefix: Tensor) -> list[Prompt]:
        position = self._parts[1].position
        return [Prompt(e.request.messages, p, position) for e, p in zip(examples, prefix, strict=True)]

    def _learnt(self, examples: Sequence[Example], prefix: Tensor) -> Tensor:
        """The objective's loss [b]."""
        method, config = self._parts
        backbone = method.trainable
        prompts = self._prompts(examples, prefix)
        if config.objective == "options":
            sizes = [len(e.options) for e in examples]
            rows = [p for p, size in zip(prompts, sizes, strict=True) for _ in range(size)]
            scores = backbone.token_logprobs(rows, [o for e in examples for o in e.options])[0].sum(-1).split(sizes)
            return objectives.options(scores, [e.options.index(e.target) for e in examples])
        if config.objective == "preference":
            return self._preferred(examples, prompts)
        targets = [e.target for e in examples]
        logprobs, counts = backbone.token_logprobs(prompts, targets)
        if config.objective == "nll":
            return objectives.nll(logprobs, counts)
        with torch.no_grad():
            nobody = self.plug.nobodys_prefix(len(examples))
            without = backbone.token_logprobs(self._prompts(examples, nobody), targets)[0]
        return objectives.weighted(logprobs, without, counts)

    def _preferred(self, examples: Sequence[Example], prompts: Sequence[Prompt]) -> Tensor:
        """Loss [b] of the liked answers beside the disliked ones, where there are any."""
        against = [i for i, e in enumerate(examples) if e.disliked]
        rows = [*prompts, *(prompts[i] for i in against)]
        texts = [e.target for e in examples] + [examples[i].disliked for i in against]
        losses = self._parts[0].trainable.loss(rows, texts)
        size = len(examples)
        return objectives.preference(losses[:size], losses[size:], torch.tensor(against, device=losses.device).long())
