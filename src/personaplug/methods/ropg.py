"""Retrieval whose query encoder learns from the frozen model which behaviours help it (ROPG-KD).

Shapes: b: batch, n: behaviours, c: candidates (padded), e: the encoder's width.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from personaplug.backbones.base import Backbone
from personaplug.core.errors import ConfigError
from personaplug.core.types import History, Profile, Request, State
from personaplug.encoders.base import TrainableEncoder
from personaplug.encoders.cache.embeddings import VectorCache
from personaplug.methods.dense import Dense
from personaplug.methods.retrieval.distilled import Alternatives, Distilled, DistilledConfig, Student
from personaplug.methods.retrieval.ranking import RankingConfig, best, dot
from personaplug.tasks.base import TaskInfo


@dataclass(frozen=True, slots=True)
class RopgConfig(DistilledConfig):
    """How much goes into a prompt, what is scored, and what is trained.

    Attributes:
        candidates: behaviours of each training request that are scored: the nearest ones before training (paper: 16).
        draws: more of them, drawn at random: among the nearest alone the retriever would learn nothing of the rest of
            the history, which it ranks too.
        train: `map` (a linear map of the query's vector, any encoder) or `encoder` (a copy of the encoder itself).
        model_temperature: divides the cosines of query and behaviours before their softmax.
    """

    candidates: int = 8
    draws: int = 2
    train: Literal["map", "encoder"] = "map"
    model_temperature: float = 0.1

    def __post_init__(self) -> None:
        DistilledConfig.__post_init__(self)
        if self.candidates < 1 or self.draws < 0 or self.candidates + self.draws < 2 or self.model_temperature <= 0:
            raise ConfigError(
                f"ropg: candidates = {self.candidates}, draws = {self.draws}, model_temperature = "
                f"{self.model_temperature}; expected candidates >= 1, draws >= 0, two together, and a temperature > 0"
            )


class Ropg(Distilled):
    """Dense retrieval by a trained query vector; the behaviours' vectors stay the frozen encoder's, as stored.

    For each training request, p = softmax(score / temperature) over its candidates, where a candidate's score is the
    frozen model's mean log-probability (nats a token) of the user's real answer with that behaviour alone in the
    prompt; q = softmax(cosine / model_temperature); the loss is KL(p || q). Different from the paper: the score is a
    likelihood instead of the task's metric of a generated answer (finer, and one forward pass), and the softmax over
    the retriever's similarities is taken once, where the released code takes it twice.
    """

    Config = RopgConfig
    summary = "dense retrieval whose query side learnt from the model what helps it"
    source = "arXiv 2404.05970, ROPG-KD"
    config: RopgConfig
    student: _Queries

    def __init__(
        self, config: Any, *, backbone: Backbone, vectors: VectorCache | None = None, task: TaskInfo | None = None
    ) -> None:
        nearest = RankingConfig(config.candidates, history_text=config.history_text)
        self.dense = Dense(nearest, backbone=backbone, vectors=vectors, task=task)
        super().__init__(config, backbone=backbone, vectors=vectors, task=task)

    @override
    def new_student(self) -> Student:
        if self.config.train == "map":
            return _QueryMap(self.cache.width, self.config.model_temperature)
        encoder = self.cache.encoder
        if not isinstance(encoder, TrainableEncoder):
            raise ConfigError(f"train = 'encoder': encoder {encoder.key!r} cannot be trained; use train = 'map'")
        return _QueryEncoder(encoder.copy_for_training(), self.config.model_temperature)

    @override
    def alternatives(self, requests: Sequence[Request], histories: Sequence[History]) -> list[Alternatives]:
        """The nearest behaviours before training, and some of the others."""
        nearest = self.dense.rank(requests, [Profile(h) for h in histories])
        made = []
        for request, history, chosen in zip(requests, histories, nearest, strict=True):
            rest = sorted(set(range(len(history))).difference(chosen))
            draw = random.Random(f"{request.user}/{request.query}")
            drawn = draw.sample(rest, min(self.config.draws, len(rest)))
            items = [history.behaviors[i] for i in (*chosen, *drawn)]
            made.append(Alternatives([[item] for item in items], self.unit_vectors(items)))
        return made

    @override
    def prepare(self, history: History) -> State:
        """The history's vectors [n, e], unit length: those of `dense`."""
        return self.dense.prepare(history)

    @override
    def rank(self, requests: Sequence[Request], profiles: Sequence[Profile]) -> list[list[int]]:
        return [self._best(r, p) for r, p in zip(requests, profiles, strict=True)]

    @torch.inference_mode()
    def _best(self, request: Request, profile: Profile) -> list[int]:
        state = self.prepare(profile.history) if profile.state is None else profile.state
        query = self.student.query([request.query], self.unit_query(request)[None].to(self.device))
        unit = F.normalize(query, dim=-1)[0].cpu().numpy()
        return best(dot(state["vectors"].astype(np.float16, copy=False), unit).round(5), self.config.k)


class _Queries(Student):
    """A trained query vector, compared with the behaviours' unit vectors."""

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def query(self, texts: Sequence[str], query: Tensor) -> Tensor:
        """Trained query vectors [b, e] from texts and the frozen encoder's unit vectors [b, e]."""
        raise NotImplementedError

    @override
    def forward(self, texts: Sequence[str], query: Tensor, vectors: Tensor) -> Tensor:
        return torch.einsum("be,bce->bc", self.query(texts, query), vectors) / self.temperature


class _QueryMap(_Queries):
    """A linear map of the query vector x, x + x·change/√e, which starts as the identity.

    So weight decay pulls towards the untrained retriever; 1/√e makes the learning rates of a plug fit.
    """

    def __init__(self, width: int, temperature: float) -> None:
        super().__init__(temperature)
        self.change = nn.Parameter(torch.zeros(width, width))

    @override
    def query(self, texts: Sequence[str], query: Tensor) -> Tensor:
        return query + query @ self.change / len(self.change) ** 0.5


class _QueryEncoder(_Queries):
    """A trainable copy of the encoder."""

    def __init__(self, encoder: nn.Module, temperature: float) -> None:
        super().__init__(temperature)
        self.encoder = encoder

    @override
    def query(self, texts: Sequence[str], query: Tensor) -> Tensor:
        return F.normalize(self.encoder(texts), dim=-1)
