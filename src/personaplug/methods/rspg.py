"""A selector that chooses, request by request, which ranker's behaviours go into the prompt, or none (RSPG-Pre).

Shapes: r: rankers, e: the encoder's width, f: 3e + r + 3 features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from personaplug.backbones.base import Backbone
from personaplug.core import registry
from personaplug.core.errors import ConfigError
from personaplug.core.types import History, Profile, Request, State
from personaplug.encoders.cache.embeddings import VectorCache
from personaplug.methods.base import joined_states, part_of_state
from personaplug.methods.retrieval import Retrieval, plain_ranker
from personaplug.methods.retrieval.distilled import Alternatives, Distilled, DistilledConfig, Student
from personaplug.methods.retrieval.ranking import RankingConfig
from personaplug.tasks.base import TaskInfo

_NONE = "none"


@dataclass(frozen=True, slots=True)
class RspgConfig(DistilledConfig):
    """How much goes into a prompt, what is scored, and what is chosen from.

    Attributes:
        rankers: names of untrained retrieval methods, and "none" for no behaviours at all.
        width: of the scorer's hidden layer.
    """

    rankers: tuple[str, ...] = (_NONE, "recent", "bm25", "dense")
    width: int = 64

    def __post_init__(self) -> None:
        DistilledConfig.__post_init__(self)
        if len(self.rankers) < 2 or len(set(self.rankers)) < len(self.rankers) or self.width < 1:
            raise ConfigError(
                f"rspg: rankers = {', '.join(self.rankers)}, width = {self.width}; "
                "expected at least two different rankers and width >= 1"
            )


class Rspg(Distilled):
    """The behaviours of the ranker that the scorer puts first, each prompt as that ranker would have it.

    The paper's scorer is a Longformer that reads each ranker's whole prompt. Ours is a small network over vectors
    that are stored anyway (of the query and of the behaviours that a ranker chose): no long text is encoded at
    request time, it works with any encoder, and a CPU trains it fast, once the scores are there. The target is
    the softmax of the frozen model's mean log-probability (nats a token) of the user's real answer with each
    ranker's prompt, where the paper has the metric of a generated answer.
    """

    Config = RspgConfig
    summary = "chooses for each request which ranker's behaviours to use, or none"
    source = "arXiv 2404.05970, RSPG-Pre"
    config: RspgConfig

    def __init__(
        self, config: Any, *, backbone: Backbone, vectors: VectorCache | None = None, task: TaskInfo | None = None
    ) -> None:
        self.rankers: dict[str, Retrieval | None] = {}
        for name in config.rankers:
            section = _section(name, config)
            parts = {"backbone": backbone, "vectors": vectors, "task": task}
            self.rankers[name] = None if section is None else registry.build("method", name, section, **parts)
        super().__init__(config, backbone=backbone, vectors=vectors, task=task)

    @property
    @override
    def key(self) -> str:
        return f"{super().key}({', '.join(r.key if r else _NONE for r in self.rankers.values())})"

    @override
    def new_student(self) -> Student:
        return _Scorer(3 * self.cache.width + len(self.rankers) + 3, self.config.width)

    @override
    def prepare(self, history: History) -> State | None:
        """The rankers' states together; the names of a ranker's arrays begin with its own name."""
        parts = {name: ranker.prepare(history) for name, ranker in self.rankers.items() if ranker}
        return joined_states(parts)

    @override
    def alternatives(self, requests: Sequence[Request], histories: Sequence[History]) -> list[Alternatives]:
        ranked = self._ranked(requests, [Profile(h) for h in histories])
        return [
            Alternatives([[h.behaviors[i] for i in chosen] for chosen in rows], self._features(r, h, rows))
            for r, h, rows in zip(requests, histories, ranked, strict=True)
        ]

    @override
    def rank(self, requests: Sequence[Request], profiles: Sequence[Profile]) -> list[list[int]]:
        """The chosen ranker's best k, the best first."""
        ranked = self._ranked(requests, profiles)
        return [self._choose(r, p.history, rows) for r, p, rows in zip(requests, profiles, ranked, strict=True)]

    def _ranked(self, requests: Sequence[Request], profiles: Sequence[Profile]) -> list[list[list[int]]]:
        """For each request, each ranker's best k."""
        rankings_of: list[list[list[int]]] = []
        for name, ranker in self.rankers.items():
            own = [Profile(p.history, part_of_state(p.state, name)) for p in profiles]
            rankings_of.append(ranker.rank(requests, own) if ranker else [[]] * len(own))
        return [[ranking[: self.config.k] for ranking in rankings] for rankings in zip(*rankings_of, strict=True)]

    @torch.inference_mode()
    def _choose(self, request: Request, history: History, ranked: list[list[int]]) -> list[int]:
        features = self._features(request, history, ranked).to(self.device)
        logits = self.student([request.query], self.unit_query(request)[None], features[None])[0]
        return ranked[int(logits.argmax())]

    def _features(self, request: Request, history: History, ranked: Sequence[Sequence[int]]) -> Tensor:
        """What the scorer sees of each ranker's choice, [r, f]."""
        query = self.unit_query(request)
        used = sorted({i for chosen in ranked for i in chosen})
        vectors = dict(zip(used, self.unit_vectors([history.behaviors[i] for i in used]), strict=True))
        which = torch.eye(len(ranked))
        rows = []
        for number, chosen in enumerate(ranked):
            matrix = torch.stack([vectors[i] for i in chosen]) if chosen else torch.zeros(1, len(query))
            near, mean = matrix @ query, matrix.mean(0)
            numbers = torch.stack([near.max(), near.mean(), torch.tensor(len(chosen) / max(self.config.k, 1))])
            # A coordinate of a unit vector is about 1/√e: brought to about 1.
            scale = len(query) ** 0.5
            rows.append(torch.cat([scale * query, scale * mean, scale**2 * query * mean, which[number], numbers]))
        return torch.stack(rows)


def _section(name: str, config: RspgConfig) -> dict[str, Any] | None:
    """The configuration of a ranker; None is no behaviours at all.

    Raises:
        ConfigError: it is no ranker, or one that must be trained or looks at the answer.
    """
    if name == _NONE:
        return None
    ranker = plain_ranker(name, "rspg")
    section: dict[str, Any] = {"k": config.k}
    if issubclass(ranker.Config, RankingConfig):
        section["history_text"] = config.history_text
    return section


class _Scorer(Student):
    """One hidden layer over standardized features; untrained, all rankers score alike."""

    center: Tensor
    spread: Tensor

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(features))
        self.register_buffer("spread", torch.ones(features))
        last = nn.Linear(width, 1)
        nn.init.zeros_(last.weight)
        self.layers = nn.Sequential(nn.Linear(features, width), nn.GELU(), last)

    @override
    def look(self, vectors: Tensor) -> None:
        self.center.copy_(vectors.mean(0))
        # A floor: what hardly varied while training must not explode when it does.
        self.spread.copy_(vectors.std(0, correction=0).clamp(min=0.1))

    @override
    def forward(self, texts: Sequence[str], query: Tensor, vectors: Tensor) -> Tensor:
        return self.layers((vectors - self.center) / self.spread).squeeze(-1)
