"""Training soft tokens: a trained module with everything that a batch of requests needs.

Shapes: b: batch, n: behaviours (padded), v·e: a behaviour's views side by side, i + k: prefix tokens, d: model width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from personaplug.backbones.base import TrainableBackbone
from personaplug.core.types import Behavior, Example, Prompt
from personaplug.plug import Plug
from personaplug.training import objectives
from personaplug.training.trainer import Length, SampledExample

Position = Literal["first", "last"]


@dataclass(frozen=True, slots=True)
class Targets:
    """What soft tokens are trained on.

    Attributes:
        backbone: the frozen model that gradients flow through.
        examples: training requests, then development requests.
        position: where the soft tokens stand.
        objective: a name in `OBJECTIVES`.
        plain: the same examples without a text method's messages, where a gate decides between the two; each use of a
            training request then sees either, by its seed.
    """

    backbone: TrainableBackbone
    examples: Sequence[Example]
    position: Position
    objective: str
    plain: Sequence[Example] = ()

    def lengths(self) -> list[Length]:
        """Token columns of each example that keep activations, and that run without gradients (a late persona's)."""
        prompts = [Prompt(e.request.messages) for e in self.examples]
        whole = self.backbone.lengths(prompts, [e.target for e in self.examples])
        if self.position != "last":
            return [(n, 0) for n in whole]
        before = self.backbone.lengths(prompts, [""] * len(prompts))
        return [(n - m, m) for n, m in zip(whole, before, strict=True)]

    def loss(self, index: Tensor, seeds: Tensor, prefix: Tensor) -> Tensor:
        """Loss [b] of the examples [b] behind their prefixes [b, i + k, d]."""
        examples = [self.examples[i] for i in index.tolist()]
        if self.plain:
            pairs = zip(index.tolist(), seeds.tolist(), examples, strict=True)
            examples = [self.plain[i] if seed % 2 else e for i, seed, e in pairs]
        prompts = [Prompt(e.request.messages, p, self.position) for e, p in zip(examples, prefix, strict=True)]
        return OBJECTIVES[self.objective](self.backbone, examples, prompts)


class PromptTraining(nn.Module):
    """A soft prompt [i, d] that is the same for every request; its parameters are those to train and save."""

    def __init__(self, prompt: nn.Module, targets: Targets) -> None:
        super().__init__()
        self.prompt = prompt
        self.targets = targets

    def collate(self, samples: Sequence[SampledExample]) -> dict[str, Any]:
        """A batch: which examples [b], and the seeds of their draws [b]."""
        return {"index": torch.tensor([d.index for d in samples]), "seeds": torch.tensor([d.seed for d in samples])}

    def forward(self, index: Tensor, seeds: Tensor) -> Tensor:
        """Loss of each request [b]."""
        return self.targets.loss(index, seeds, self.prompt().expand(len(index), -1, -1))


class PlugTraining(nn.Module):
    """A plug, and the encoder of queries where it is trained; its parameters are those to train and save.

    Args:
        plug: with fresh weights.
        targets: what it is trained on.
        histories: what training sees of each example's history.
        queries: frozen query vectors of the examples [N, e], or the trained encoder of their texts; None where no
            pooling uses a query.
    """

    def __init__(self, plug: Plug, targets: Targets, histories: Histories, queries: Tensor | nn.Module | None) -> None:
        super().__init__()
        self.plug = plug
        self.query_encoder = queries if isinstance(queries, nn.Module) else None
        self.frozen_queries = queries if isinstance(queries, Tensor) else None
        self.targets = targets
        self.histories = histories

    def collate(self, samples: Sequence[SampledExample]) -> dict[str, Any]:
        """A batch: examples and seeds [b], history vectors [b, n, v·e] with mask [b, n], queries [b, e] or None."""
        vectors = [self.histories.vectors(d) for d in samples]
        index = torch.tensor([d.index for d in samples])
        return {
            "index": index,
            "seeds": torch.tensor([d.seed for d in samples]),
            "vectors": pad_sequence(vectors, batch_first=True),
            "mask": pad_sequence([torch.ones(len(v), dtype=torch.bool) for v in vectors], batch_first=True),
            "query": None if self.frozen_queries is None else self.frozen_queries[index],
        }

    def forward(self, index: Tensor, seeds: Tensor, vectors: Tensor, mask: Tensor, query: Tensor | None) -> Tensor:
        """Loss of each request [b]."""
        if self.query_encoder is not None:
            query = self.query_encoder([self.targets.examples[i].request.query for i in index.tolist()])
        prefix, _ = self.plug(vectors, mask, query)
        return self.targets.loss(index, seeds, prefix)


class Histories:
    """The vectors of the examples' histories, each distinct behaviour once.

    Args:
        examples: training requests, then development requests.
        embed: gives the raw vectors [N, v·e] of behaviours.
        dropout: up to this share of a history is left out, drawn afresh at each use.
        most: at most this many behaviours: the newest, or while training a random subset.
    """

    def __init__(
        self, examples: Sequence[Example], embed: Callable[[tuple[Behavior, ...]], Tensor], dropout: float, most: int
    ) -> None:
        self.users = [e.history.user for e in examples]
        self.dropout = dropout
        self.most = most
        at: dict[tuple[str, str], int] = {}
        behaviors: list[Behavior] = []
        self.rows: list[Tensor] = []  # of each example, in the matrix
        for example in examples:
            own = []
            for b in example.history:
                row = at.setdefault((b.user, b.id), len(at))
                if row == len(behaviors):
                    behaviors.append(b)
                own.append(row)
            self.rows.append(torch.tensor(own, dtype=torch.long))
        self.matrix = embed(tuple(behaviors)).cpu().half()  # as stored

    def vectors(self, sample: SampledExample) -> Tensor:
        """What one use of an example sees of its history [n, v·e]; seed 0 is the whole of it, without dropout."""
        rows = self.rows[sample.index]
        if not sample.seed:
            return self.matrix[rows[-self.most :]].float()
        picked = drop_history(len(rows), self.dropout, self.most, torch.Generator().manual_seed(sample.seed))
        return self.matrix[rows[picked]].float()

    def distinct(self, count: int) -> Tensor:
        """The vectors [N, v·e] of the distinct behaviours of the first `count` examples."""
        return self.matrix[torch.cat(self.rows[:count]).unique()].float()

    def by_user(self, count: int) -> list[Tensor]:
        """The vectors [n, v·e] of the longest history of each user of the first `count` examples."""
        longest: dict[str, Tensor] = {}
        for user, rows in zip(self.users[:count], self.rows, strict=False):
            if len(rows) > len(longest.get(user, ())):
                longest[user] = rows
        return [self.matrix[rows].float() for rows in longest.values()]


def drop_history(n: int, dropout: float, most: int, generator: torch.Generator) -> Tensor:
    """Indices [r], ascending, of the behaviours that a training step sees of a history of length n.

    As in the reference's augmentation: of more than two, a share drawn from [0, dropout) plus one is left out, then at
    most `most` remain, chosen at random. The reference wrote 10 such copies to disk; here each use draws afresh.
    """
    size = n
    if n > 2 and dropout > 0:
        size = n - min(n - 1, int(n * dropout * torch.rand((), generator=generator).item()) + 1)
    return torch.randperm(n, generator=generator)[: min(size, most)].sort().values


def _nll(backbone: TrainableBackbone, examples: Sequence[Example], prompts: Sequence[Prompt]) -> Tensor:
    return objectives.nll(*backbone.token_logprobs(prompts, [e.target for e in examples]))


def _options(backbone: TrainableBackbone, examples: Sequence[Example], prompts: Sequence[Prompt]) -> Tensor:
    sizes = [len(e.options) for e in examples]
    rows = [p for p, size in zip(prompts, sizes, strict=True) for _ in range(size)]
    scores = backbone.token_logprobs(rows, [o for e in examples for o in e.options])[0].sum(-1).split(sizes)
    return objectives.options(scores, [e.options.index(e.target) for e in examples])


def _preference(backbone: TrainableBackbone, examples: Sequence[Example], prompts: Sequence[Prompt]) -> Tensor:
    against = [i for i, e in enumerate(examples) if e.disliked]
    rows = [*prompts, *(prompts[i] for i in against)]
    texts = [e.target for e in examples] + [examples[i].disliked for i in against]
    losses = backbone.loss(rows, texts)
    size = len(examples)
    return objectives.preference(losses[:size], losses[size:], torch.tensor(against, device=losses.device).long())


Objective = Literal["nll", "options", "preference"]

OBJECTIVES: dict[str, Callable[[TrainableBackbone, Sequence[Example], Sequence[Prompt]], Tensor]] = {
    "nll": _nll,
    "options": _options,
    "preference": _preference,
}
"""What is learnt from a batch of examples and their prompts: a loss for each [b]."""
