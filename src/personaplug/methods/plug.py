"""Our Persona-Plug as a method: fit the plug, prepare a user's vectors, pool them for each request.

Shapes: b: batch, n: behaviours (padded), v: views, e: encoder width, p: poolings, i + k: prefix tokens, d: model width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from typing_extensions import override

from personaplug.backbones.base import Backbone
from personaplug.core.config import retired
from personaplug.core.errors import ConfigError
from personaplug.core.types import Attribution, Behavior, Example, History, Profile, Prompt, Request, State
from personaplug.encoders.base import TrainableEncoder
from personaplug.encoders.cache.embeddings import VectorCache
from personaplug.methods.base import digest_of
from personaplug.methods.soft import gate
from personaplug.methods.soft.fitting import Histories, Objective, PlugTraining, Targets
from personaplug.methods.soft.method import SoftMethod, seeded
from personaplug.plug import POOLINGS, Plug, PlugConfig
from personaplug.plug.attribution import influence
from personaplug.tasks.base import TaskInfo
from personaplug.training.config import TrainingConfig, TrainingResult


@retired(peers=0, projector_width=0, scale=0.0, query_prefix="", teacher={})
@dataclass(frozen=True, slots=True)
class PlugMethodConfig(PlugConfig):
    """The plug's shape, and how it is trained and used; the defaults are ours, `pplug` is the paper.

    Attributes:
        position: `first` (before the whole prompt, as in the paper) or `last` (right before the answer).
        start: what the soft tokens are before training: `random`, or the last `words` of the task's instruction (line
            breaks where it has none), from which the projector's output then leads away.
        history_text: template, or templates, of what the encoder sees of a behaviour, each view encoded alone; queries
            are compared with the first. Empty means the task's own.
        query_encoder: of queries alone: `frozen`, or a copy of the encoder that is trained in `full`.
        objective: what is learnt: `nll` (next-token loss, arXiv 2409.11901, eq. 6), `options` (the right one of the
            task's options) or `preference` (`nll`, and that what the user disliked is less likely).
        history_dropout: while training, up to this share of a history is left out, drawn afresh at each use.
        max_history: at most this many behaviours, the newest (while training: a random subset).
        text: section of a text method whose messages the persona joins, as {name = "bm25", k = 1}; empty is none.
        gate: add that text only where a learned gate expects it to help.
    """

    position: Literal["first", "last"] = "last"
    start: Literal["random", "words"] = "words"
    history_text: str | tuple[str, ...] = ("{input}", "{output}")
    query_encoder: Literal["frozen", "full"] = "frozen"
    objective: Objective = "nll"
    history_dropout: float = 0.5
    max_history: int = 512
    text: Mapping[str, Any] = field(default_factory=dict)
    gate: bool = False

    def __post_init__(self) -> None:
        PlugConfig.__post_init__(self)
        if self.max_history < 1:
            raise ValueError(f"max_history is {self.max_history}, expected at least 1")
        if not 0.0 <= self.history_dropout < 1.0:
            raise ValueError(f"history_dropout is {self.history_dropout}, expected a share in [0, 1)")
        if self.gate and not self.text:
            raise ValueError("gate = true needs a text method to let through; set text = {name = 'recent', k = 2}")

    @property
    def views(self) -> int:
        """How many vectors a behaviour has, v."""
        return 1 if isinstance(self.history_text, str) else max(len(self.history_text), 1)

    @property
    def uses_query(self) -> bool:
        """Whether a persona depends on the request."""
        return any(POOLINGS[p].uses_query for p in self.poolings)


class PlugMethod(SoftMethod):
    """One learned persona per user as soft tokens; new users cost no training."""

    Config: ClassVar[type[Any]] = PlugMethodConfig
    summary = "a learned persona per user, as soft tokens in front of the frozen model"
    source = "Persona-Plug, arXiv 2409.11901, with our defaults"
    SAVED_AS: ClassVar[Mapping[str, str]] = {
        "standard.mean": "center",
        "standard.std": "spread",
        "null_user": "nobody",
        "prototypes.means": "prototypes",
        "prototypes.shares": "prototype_shares",
        "prototypes.log_sharpness": "likeness",
    }
    config: PlugMethodConfig

    def __init__(
        self,
        config: PlugMethodConfig,
        *,
        backbone: Backbone,
        vectors: VectorCache | None = None,
        task: TaskInfo | None = None,
    ) -> None:
        super().__init__(config, backbone=backbone, vectors=vectors, task=task)
        given = config.history_text or (task.history_text if task else "{input} {output}")
        self.templates = (given,) if isinstance(given, str) else given
        self.encoder_width = self.needed_vectors().encoder.width
        self.query_encoder: nn.Module | None = None
        self.gate = gate.Gate().to(self.device) if config.gate else None
        self._build(seed=0)

    def _build(self, seed: int) -> None:
        """Fresh weights from a seed."""
        config, backbone = self.config, self.backbone
        with seeded(seed):
            plug = Plug(config, self.encoder_width, backbone.width, backbone.token_norm, config.views)
            self.plug = plug.to(self.device)
        words = self.first_words()
        if words is not None:
            self.plug.start_from(words)
        if config.query_encoder != "frozen":
            encoder = self.needed_vectors().encoder
            if not isinstance(encoder, TrainableEncoder):
                raise ConfigError(
                    f"method {self.name!r}: query_encoder = {config.query_encoder!r}, but encoder {encoder.key!r} "
                    "cannot be trained; use query_encoder = 'frozen' or the encoder sentence"
                )
            with seeded(seed):
                self.query_encoder = encoder.copy_for_training().to(self.device)
        self._digest = ""

    @property
    @override
    def history_templates(self) -> tuple[str, ...]:
        return self.templates

    @classmethod
    @override
    def needs_encoder(cls, config: PlugMethodConfig) -> bool:
        return True

    @classmethod
    @override
    def control(cls, config: PlugMethodConfig) -> Mapping[str, Any]:
        tokens = config.persona_tokens + config.instruction_tokens
        same = {"position": config.position, "text": config.text, "start": config.start}
        return {"name": "task_prompt", "instruction_tokens": tokens, **same}

    @property
    @override
    def key(self) -> str:
        """Name, weights and encoder: states that another plug prepared are never used."""
        encoder = self.needed_vectors().encoder.key
        return f"{self.name}:{_STATES}:{self.weights_digest()}:{encoder}:{'|'.join(self.templates)}{self.text_key}"

    # -- once, over many users ------------------------------------------------------------------------------------

    @override
    def fit(
        self, train: Sequence[Example], dev: Sequence[Example], training: TrainingConfig, folder: Path
    ) -> TrainingResult:
        """Train the plug on the requests' targets (eq. 6: next-token loss); the backbone stays as it is."""
        self._build(training.seed)
        examples = [*train, *dev]
        written = self.with_text(examples)
        module = self.training_module(examples, written)
        self._look_at(module.histories, len(train), training.seed)
        result = self.train_module(module, (len(train), len(dev)), training, folder)
        if self.gate is not None:
            # Requests that nothing was trained on, where there are some.
            chosen = slice(len(train), None) if dev else slice(0, _GATED)
            self._fit_gate(self.gate, examples[chosen], written[chosen])
        return result

    def training_module(self, examples: Sequence[Example], written: Sequence[Example]) -> PlugTraining:
        """What is trained, of examples without and with the text method's messages."""
        config = self.config
        targets = Targets(self.trainable, written, config.position, config.objective, examples if self.gate else ())
        histories = Histories(examples, self._embedded, config.history_dropout, config.max_history)
        queries: Tensor | nn.Module | None = None
        if config.uses_query:
            queries = self.query_encoder or self.queries([e.request.query for e in examples]).cpu()
        return PlugTraining(self.plug, targets, histories, queries)

    def _embedded(self, behaviors: tuple[Behavior, ...]) -> Tensor:
        return self.views(History("", behaviors))

    def _look_at(self, histories: Histories, train: int, seed: int) -> None:
        """Take what the training histories say before any training: statistics and prototype users."""
        vectors = histories.distinct(train).to(self.device)
        if self.config.standardize and len(vectors):
            self.plug.standard.fit(vectors)
        if self.plug.prototypes is not None and len(vectors):
            users = [self.plug.standard(own.to(self.device)) for own in histories.by_user(train)]
            self.plug.prototypes.fit(users, self.plug.inner.weight, seed)

    def _fit_gate(self, fresh: gate.Gate, plain: Sequence[Example], written: Sequence[Example]) -> None:
        """Compare the answers' likelihood with and without the text, both with the persona."""

        def personas(examples: Sequence[Example]) -> tuple[list[Tensor], Tensor]:
            profiles = [Profile(e.history, self._prepare(e.history)) for e in examples]
            return self._personas([e.request for e in examples], profiles)

        gate.learn(fresh, self.trainable, (plain, written), personas, self.config.position)

    @override
    def parts(self) -> dict[str, nn.Module]:
        parts: dict[str, nn.Module | None] = {"": self.plug, "query_encoder.": self.query_encoder, "gate.": self.gate}
        return {name: module for name, module in parts.items() if module is not None}

    @override
    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        super().load_tensors({k: v for k, v in tensors.items() if k not in _RETIRED_TENSORS or v.numel()})

    @override
    def weights_digest(self) -> str:
        if not self._digest:
            self._digest = digest_of({**self.tensors(), **dict.fromkeys(_RETIRED_TENSORS, torch.empty(0))})
        return self._digest

    # -- per user, stored -----------------------------------------------------------------------------------------

    @override
    def prepare(self, history: History) -> State | None:
        """Project the history: what needs no query pooled [p, d]; for what does, keys [n, e] and values [n, d] too."""
        return self.with_text_states([self._prepare(history)], [history])[0]

    @override
    @torch.inference_mode()
    def extend(self, profile: Profile, added: History) -> State | None:
        if profile.state is None or "keys" not in profile.state or self.config.prototypes:
            return None
        rows = []
        for name, new in zip(("keys", "values"), self._project(added), strict=True):
            old = torch.as_tensor(profile.state[name], device=self.device)
            rows.append(torch.cat([old, new])[-self.config.max_history :])
        behaviors = profile.history.behaviors + added.behaviors
        history = dataclasses.replace(profile.history, behaviors=behaviors)
        return self.with_text_states([self._state(rows[0], rows[1])], [history])[0]

    @torch.inference_mode()
    def _prepare(self, history: History) -> State:
        vectors = self.views(history.last(self.config.max_history))
        mask = torch.ones(1, len(vectors), dtype=torch.bool, device=self.device)
        keys, values = self.plug.project(vectors)
        return self._state(keys.half(), values.half(), self.plug.prototype_values(vectors[None], mask)[0])

    def _state(self, keys: Tensor, values: Tensor, prototypes: Tensor | None = None) -> State:
        """What is stored of keys [n, e] and values [n, d] in half precision, and of prototype users [1 or 0, d]."""
        mask = torch.ones(1, len(keys), dtype=torch.bool, device=self.device)
        weights = self.plug.weights(keys[None], mask, None, self.plug.static_poolings)
        pooled = self.plug.pooled(values[None], weights)[0]
        stored = {"static": (pooled if prototypes is None else torch.cat([pooled, prototypes])).half()}
        if self._compares:
            stored |= {"keys": keys, "values": values}
        return {name: part.cpu().numpy() for name, part in stored.items()}

    @property
    def _compares(self) -> bool:
        """Whether requests are compared with behaviours."""
        return self.config.uses_query or self.gate is not None

    def _project(self, history: History) -> tuple[Tensor, Tensor]:
        """Keys [n, e] and values [n, d] of the newest behaviours, in half precision as they are stored."""
        keys, values = self.plug.project(self.views(history.last(self.config.max_history)))
        return keys.half(), values.half()

    def views(self, history: History) -> Tensor:
        """The raw vectors of the behaviours' views side by side [n, v·e]."""
        return torch.as_tensor(self.needed_vectors().embed(history, *self.templates)).to(self.device)

    # -- per request, fast ----------------------------------------------------------------------------------------

    @override
    def personalize(self, request: Request, profile: Profile) -> Prompt:
        return self.personalize_many([request], [profile])[0]

    @override
    def personalize_many(self, requests: Sequence[Request], profiles: Sequence[Profile]) -> list[Prompt]:
        if not requests:
            return []
        prefixes, features = self._personas(requests, profiles)
        written = list(requests)
        opened = range(len(requests)) if self.gate is None else self.gate(features).nonzero()[:, 0].tolist()
        texts = self.text_requests([requests[i] for i in opened], [profiles[i] for i in opened])
        for i, text in zip(opened, texts, strict=True):
            written[i] = text
        return [
            Prompt(r.messages, prefix=p, position=self.config.position) for r, p in zip(written, prefixes, strict=True)
        ]

    @torch.inference_mode()
    def _personas(self, requests: Sequence[Request], profiles: Sequence[Profile]) -> tuple[list[Tensor], Tensor]:
        """Each request's prefix [i + k, d], and what the gate looks at [b, f] (f is 0 where there is no gate)."""
        queries: Sequence[Tensor | None] = [None] * len(requests)
        if self._compares:
            queries = list(self.plug.standard(self.queries([r.query for r in requests])))
        states = [p.state if p.state is not None else self._prepare(p.history) for p in profiles]
        pairs = [self._pooled(s, q) for s, q in zip(states, queries, strict=True)]
        pooled, features = (torch.cat(part) for part in zip(*pairs, strict=True))
        return list(self.plug.prefix(pooled)), features

    def _pooled(self, state: State, query: Tensor | None) -> tuple[Tensor, Tensor]:
        """One user's pooled values [1, p, m] for a query [e], and what the gate looks at [1, f].

        Users are not padded to one batch: histories differ in length by far, and each then gives what it gives alone.
        """
        plug = self.plug
        part = {name: torch.as_tensor(state[name], device=self.device)[None] for name in _PARTS if name in state}
        static, width = part["static"].float(), plug.inner.out_features
        pooled = static.new_empty(1, static.shape[1] + len(plug.query_poolings), width)
        # Prototype users, if any, stand after the poolings.
        pooled[:, [i for i in range(pooled.shape[1]) if i not in plug.query_poolings]] = static
        features = pooled.new_zeros(1, 0)
        if query is not None:
            mask = torch.ones(part["keys"].shape[:2], dtype=torch.bool, device=self.device)
            weights = plug.weights(part["keys"], mask, query[None], plug.query_poolings)
            pooled[:, plug.query_poolings] = plug.pooled(part["values"], weights)
            if self.gate is not None:
                features = gate.features(part["keys"].float(), mask, query[None])
        return pooled, features

    def queries(self, texts: Sequence[str]) -> Tensor:
        """Raw query vectors [b, e]; gradients flow where the query encoder is trained."""
        if self.query_encoder is not None:
            return self.query_encoder(list(texts))
        return torch.as_tensor(self.needed_vectors().query(list(texts))).to(self.device)

    @override
    @torch.inference_mode()
    def explain(self, request: Request, profile: Profile) -> list[Attribution]:
        history = profile.history.last(self.config.max_history)
        if not history.behaviors:
            return []
        keys, values = self._project(history)
        query = self.plug.standard(self.queries([request.query])) if self.config.uses_query else None
        weights = self.plug.weights(keys[None], torch.ones_like(keys[None, :, 0], dtype=torch.bool), query)[0]
        shares = influence(self.plug, values.float(), weights).tolist()
        pairs = [Attribution(b, w) for b, w in zip(history, shares, strict=True)]
        return sorted(pairs, key=lambda w: -w.weight)


_PARTS = ("static", "keys", "values")  # of a state; others are the text method's
_STATES = 3  # version of what a state holds; bump to invalidate stored states
_RETIRED_TENSORS = ("peer_keys", "peer_views")  # empty in every artifact that still loads, and part of its digest
_GATED = 512  # training requests that the gate is fitted on, where there is no development set
