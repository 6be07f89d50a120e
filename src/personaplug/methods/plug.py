"""Our Persona-Plug as a method: fit the plug, prepare a user's vectors, pool them for each request.

Shapes: b: batch, n: behaviours (padded), v: views, e: encoder width, m: projector width, p: poolings, i + k: prefix
tokens, d: model width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import override

from personaplug.backbones.base import Backbone, SoftBackbone, TrainableBackbone
from personaplug.core.errors import ConfigError, MismatchError
from personaplug.core.types import Attribution, Conditioning, Example, History, Profile, Prompt, Request, State
from personaplug.encoders.base import TrainableEncoder
from personaplug.encoders.cache.embeddings import VectorCache
from personaplug.methods.base import OnTopOfText, build_text, text_needs_encoder
from personaplug.methods.soft import gate
from personaplug.methods.soft.fitting import Fitting
from personaplug.plug.model import Plug, PlugConfig
from personaplug.tasks.base import TaskInfo
from personaplug.training.trainer import Training, TrainingConfig, TrainingResult


class PlugMethod(OnTopOfText):
    """One learned persona per user as soft tokens; new users cost no training."""

    Config: ClassVar[type[Any]] = PlugConfig
    summary = "a learned persona per user, as soft tokens in front of the frozen model"
    source = "Persona-Plug, arXiv 2409.11901, with our defaults"
    needs = Conditioning.TEXT | Conditioning.PREFIX
    trained = True
    config: PlugConfig

    def __init__(
        self,
        config: PlugConfig,
        *,
        backbone: Backbone,
        vectors: VectorCache | None = None,
        task: TaskInfo | None = None,
    ) -> None:
        super().__init__(config, backbone=backbone, vectors=vectors, task=task)
        if not isinstance(backbone, SoftBackbone):
            raise MismatchError(
                f"method {self.name!r} needs a backbone that knows its token embeddings, not {backbone.key!r}"
            )
        self.backbone: SoftBackbone = backbone
        given = config.history_text or (task.history_text if task else "{input} {output}")
        self.templates = (given,) if isinstance(given, str) else given
        self.device = backbone.device
        self.encoder_width = self.needed_vectors().encoder.width if config.persona_tokens else backbone.width
        self.query_encoder: nn.Module | None = None
        self.gate = gate.Gate().to(self.device) if config.gate else None
        self.teacher = build_text(config.teacher, self.name, backbone=backbone, vectors=vectors, task=task)
        self._check()
        self._build(seed=0)

    def _check(self) -> None:
        """Refuse choices that contradict each other or the task."""
        task = self.task
        if self.config.objective == "options" and task is not None and task.kind not in ("choice", "rating"):
            raise ConfigError(
                f"method {self.name!r}: objective 'options' needs a task of kind choice or rating, and "
                f"{task.name!r} is of kind {task.kind}; use nll"
            )
        if self.config.gate and not (self.config.text and self.config.persona_tokens):
            raise ConfigError(
                f"method {self.name!r}: gate = true needs persona tokens and a text method to let through; "
                'set text = {name = "recent", k = 2}'
            )

    def _build(self, seed: int) -> None:
        """Fresh weights from a seed, without disturbing anybody else's random numbers."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            backbone = self.backbone
            self.plug = Plug(self.config, self.encoder_width, backbone.width, backbone.token_norm).to(self.device)
        if self.config.start == "words":
            words = (self.task.instruction if self.task else "") or _NO_WORDS
            found = self.backbone.words(words)
            if len(found):  # a tokenizer may have no line breaks
                self.plug.start_from(found.float())
        if self.config.query_encoder != "frozen":
            encoder = self.needed_vectors().encoder
            if not isinstance(encoder, TrainableEncoder):
                raise ConfigError(
                    f"method {self.name!r}: query_encoder = {self.config.query_encoder!r}, but encoder "
                    f"{encoder.key!r} cannot be trained; use query_encoder = 'frozen' or the encoder sentence"
                )
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                self.query_encoder = encoder.copy_for_training(self.config.query_encoder).to(self.device)
        self._key = ""

    @property
    @override
    def history_templates(self) -> tuple[str, ...]:
        return self.templates if self.config.persona_tokens else ()

    @classmethod
    @override
    def needs_encoder(cls, config: PlugConfig) -> bool:
        return config.persona_tokens > 0 or text_needs_encoder(config.text) or text_needs_encoder(config.teacher)

    @property
    def key(self) -> str:
        """Name, weights and encoder: states that another plug prepared are never used."""
        if not self._key:
            encoder = self.vectors.encoder.key if self.vectors else "-"
            self._key = (
                f"{self.name}:{_STATES}:{self.weights_digest()}:{encoder}:{'|'.join(self.templates)}{self.text_key}"
            )
        return self._key

    # -- once, over many users ------------------------------------------------------------------------------------

    @property
    def trainable(self) -> TrainableBackbone:
        """Its backbone, if gradients flow through it.

        Raises:
            MismatchError: they do not.
        """
        if not isinstance(self.backbone, TrainableBackbone):
            raise MismatchError(
                f"method {self.name!r} is trained through a model in this process, and {type(self.backbone).__name__} "
                f"runs elsewhere: train it on a backbone of the same weights ({self.backbone.key})"
            )
        return self.backbone

    @override
    def fit(
        self, train: Sequence[Example], dev: Sequence[Example], training: TrainingConfig, folder: Path
    ) -> TrainingResult:
        """Train the plug on the requests' targets (eq. 6: next-token loss); the backbone stays as it is."""
        self._build(training.seed)
        examples = [*train, *dev]
        written = self._with_text(examples)
        fitting = Fitting(self, written, examples if self.gate else ())
        if self.config.persona_tokens:
            vectors = fitting.matrix[fitting.rows_of(len(train))].to(self.device).float()
            if self.config.standardize and len(vectors):
                self.plug.set_statistics(vectors)
            if self.config.peers and len(vectors):
                self.plug.set_peers(vectors, training.seed)
            if self.config.prototypes and len(vectors):
                self.plug.set_prototypes(fitting.users(len(train)), training.seed)
        result = Training(
            module=fitting,
            collate=fitting.collate,
            lengths=fitting.lengths[: len(train)],
            config=training,
            folder=folder,
            dev=len(dev),
        ).run()
        fitting.eval()
        if self.gate is not None:
            # Requests that nothing was trained on, where there are some.
            chosen = slice(len(train), None) if dev else slice(0, _GATED)
            self._fit_gate(self.gate, examples[chosen], written[chosen])
        self._key = ""
        return result

    @torch.inference_mode()
    def _fit_gate(self, fresh: gate.Gate, plain: Sequence[Example], written: Sequence[Example]) -> None:
        """Compare the answers' likelihood with and without the text, both with the persona."""
        looked, gain = [], []
        for start in range(0, len(plain), _BATCH):
            here = plain[start : start + _BATCH]
            profiles = [Profile(e.history, self._prepare(e.history)) for e in here]
            prefixes, seen = self._personas([e.request for e in here], profiles)
            position, targets = self.config.position, [e.target for e in here]
            nats = [
                self.trainable.loss(
                    [Prompt(e.request.messages, p, position) for e, p in zip(side, prefixes, strict=True)], targets
                )
                for side in (here, written[start : start + _BATCH])
            ]
            gain.append(nats[0] - nats[1])
            looked.append(seen)
        fresh.fit(torch.cat(looked), torch.cat(gain))

    def _with_text(self, examples: Sequence[Example]) -> list[Example]:
        """The examples with the text method's messages, as requests will have them."""
        if self.text is None:
            return list(examples)
        histories = [e.history for e in examples]
        states = self.with_text_states([None] * len(histories), histories)
        profiles = [Profile(h, s) for h, s in zip(histories, states, strict=True)]
        requests = self.text_requests([e.request for e in examples], profiles)
        return [dataclasses.replace(e, request=r) for e, r in zip(examples, requests, strict=True)]

    def taught(self, examples: Sequence[Example]) -> list[Prompt]:
        """What the teacher reads for each example: the user's behaviours as text; nothing where there is no teacher."""
        if self.teacher is None:
            return []
        states = self.teacher.prepare_many([e.history for e in examples])
        profiles = [Profile(e.history, s) for e, s in zip(examples, states, strict=True)]
        return self.teacher.personalize_many([e.request for e in examples], profiles)

    @override
    def tensors(self) -> dict[str, Tensor]:
        return {f"{part}{k}": v for part, module in self._trained().items() for k, v in _learnt(module).items()}

    def _trained(self) -> dict[str, nn.Module]:
        """The parts that an artifact keeps, and how the names of their tensors begin."""
        parts: dict[str, nn.Module | None] = {"": self.plug, "query_encoder.": self.query_encoder, "gate.": self.gate}
        return {name: module for name, module in parts.items() if module is not None}

    @override
    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take trained tensors.

        Raises:
            MismatchError: they are of a plug of another shape.
        """
        left = dict(tensors)
        try:
            for part, module in reversed(self._trained().items()):
                mine = [k for k in left if k.startswith(part)]
                given = {k.removeprefix(part): left.pop(k) for k in mine}
                own = _learnt(module)
                module.load_state_dict({**{k: v for k, v in module.state_dict().items() if k not in own}, **given})
        except RuntimeError as error:
            cause = str(error).splitlines()[-1].strip()
            raise MismatchError(f"method {self.name!r}: the saved weights do not fit: {cause}") from None
        self.plug.eval()
        self._key = ""

    # -- per user, stored -----------------------------------------------------------------------------------------

    @override
    def prepare(self, history: History) -> State | None:
        """Project the history: what needs no query pooled [p, m]; for what does, keys [n, e] and values [n, m] too."""
        return self.with_text_states([self._prepare(history)], [history])[0]

    @override
    @torch.inference_mode()
    def extend(self, profile: Profile, added: History) -> State | None:
        if profile.state is None or "keys" not in profile.state or self.config.prototypes:
            return None
        rows = []
        for name, new in zip(("keys", "values"), self._read(added), strict=True):
            old = torch.as_tensor(profile.state[name], device=self.device)
            rows.append(torch.cat([old, new])[-self.config.max_history :])
        behaviors = profile.history.behaviors + added.behaviors
        history = dataclasses.replace(profile.history, behaviors=behaviors)
        return self.with_text_states([self._state(rows[0], rows[1])], [history])[0]

    @torch.inference_mode()
    def _prepare(self, history: History) -> State | None:
        if not self.config.persona_tokens:
            return None
        vectors = self.views(history.last(self.config.max_history))
        everybody = torch.ones(1, len(vectors), dtype=torch.bool, device=self.device)
        alike = [self.plug.alike(vectors[None], everybody)[0]] if self.config.prototypes else []
        return self._state(*self._halved(vectors), alike)

    def _state(self, keys: Tensor, values: Tensor, alike: Sequence[Tensor] = ()) -> State:
        """What is stored of keys [n, e] and values [n, m] in half precision, and of prototype users [1, m] if any."""
        mask = torch.ones(1, len(keys), dtype=torch.bool, device=self.device)
        weights = self.plug.weights(keys[None], mask, None, self.plug.static)
        kept = {"static": torch.cat([self.plug.pooled(values[None], weights)[0], *alike]).half()}
        if self._compares:
            kept |= {"keys": keys, "values": values}
        return {name: part.cpu().numpy() for name, part in kept.items()}

    @property
    def _compares(self) -> bool:
        """Whether requests are compared with behaviours."""
        return self.config.wants_query or self.gate is not None

    def _read(self, history: History) -> tuple[Tensor, Tensor]:
        """Keys [n, e] and values [n, m] of the newest behaviours, in half precision as they are stored."""
        return self._halved(self.views(history.last(self.config.max_history)))

    def _halved(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        keys, values = self.plug.read(vectors)
        return keys.half(), values.half()

    def views(self, history: History) -> Tensor:
        """The raw vectors of the behaviours' views side by side [n, v·e]."""
        return torch.as_tensor(self.needed_vectors().of(history, *self.templates)).to(self.device)

    # -- per request, fast ----------------------------------------------------------------------------------------

    @override
    def personalize(self, request: Request, profile: Profile) -> Prompt:
        return self.personalize_many([request], [profile])[0]

    @override
    def personalize_many(self, requests: Sequence[Request], profiles: Sequence[Profile]) -> list[Prompt]:
        if not requests:
            return []
        prefixes, looked = self._personas(requests, profiles)
        written = list(requests)
        opened = range(len(requests)) if self.gate is None else self.gate(looked).nonzero()[:, 0].tolist()
        texts = self.text_requests([requests[i] for i in opened], [profiles[i] for i in opened])
        for i, text in zip(opened, texts, strict=True):
            written[i] = text
        return [
            Prompt(r.messages, prefix=p, position=self.config.position) for r, p in zip(written, prefixes, strict=True)
        ]

    @torch.inference_mode()
    def _personas(self, requests: Sequence[Request], profiles: Sequence[Profile]) -> tuple[list[Tensor], Tensor]:
        """Each request's prefix [i + k, d], and what the gate looks at [b, f] (f is 0 where there is no gate)."""
        if not self.config.persona_tokens:
            return [self.plug.nobodys_prefix()[0]] * len(requests), torch.zeros(len(requests), 0, device=self.device)
        queries: Sequence[Tensor | None] = [None] * len(requests)
        if self._compares:
            queries = list(self.plug.query(self.queries([r.query for r in requests])))
        pairs = [self._pooled(s, q) for s, q in zip(self._states(profiles), queries, strict=True)]
        pooled, looked = (torch.cat(part) for part in zip(*pairs, strict=True))
        return list(self.plug.prefix(pooled)), looked

    def _pooled(self, state: State, query: Tensor | None) -> tuple[Tensor, Tensor]:
        """One user's pooled values [1, p, m] for a query [e], and what the gate looks at [1, f].

        Users are not padded to one batch: histories differ in length by far, and each then gives what it gives alone.
        """
        plug = self.plug
        part = {name: torch.as_tensor(state[name], device=self.device)[None] for name in _PARTS if name in state}
        pooled = plug.inner.bias.new_empty(1, plug.tracks, len(plug.inner.bias))
        pooled[:, plug.unasked] = part["static"].float()
        looked = pooled.new_zeros(1, 0)
        if query is not None:
            mask = torch.ones(part["keys"].shape[:2], dtype=torch.bool, device=self.device)
            weights = plug.weights(part["keys"], mask, query[None], plug.asked)
            pooled[:, plug.asked] = plug.pooled(part["values"], weights)
            if self.gate is not None:
                looked = gate.features(part["keys"].float(), mask, query[None])
        return pooled, looked

    def _states(self, profiles: Sequence[Profile]) -> list[State]:
        states = [p.state if p.state is not None else self._prepare(p.history) for p in profiles]
        return [s for s in states if s is not None]

    def queries(self, texts: Sequence[str]) -> Tensor:
        """Raw query vectors [b, e]; gradients flow where the query encoder is trained."""
        prefixed = [self.config.query_prefix + t for t in texts]
        if self.query_encoder is not None:
            return self.query_encoder(prefixed)
        return torch.as_tensor(self.needed_vectors().query(prefixed)).to(self.device)

    @override
    @torch.inference_mode()
    def explain(self, request: Request, profile: Profile) -> list[Attribution]:
        history = profile.history.last(self.config.max_history)
        if not self.config.persona_tokens or not history.behaviors:
            return []
        keys, values = self._read(history)
        asked = self.plug.query(self.queries([request.query])) if self.config.wants_query else None
        weights = self.plug.weights(keys[None], torch.ones_like(keys[None, :, 0], dtype=torch.bool), asked)[0]
        shares = self.plug.influence(values.float(), weights).tolist()
        pairs = [Attribution(b, w) for b, w in zip(history, shares, strict=True)]
        return sorted(pairs, key=lambda w: -w.weight)


def _learnt(module: nn.Module) -> dict[str, Tensor]:
    """A module's tensors without its frozen parameters (a low-rank change stands on an encoder that all have)."""
    frozen = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
    return {k: v for k, v in module.state_dict().items() if k not in frozen}


_PARTS = ("static", "keys", "values")  # of a state; others are the text method's
_STATES = 3  # what a state holds: rises when that changes, so that stored ones of before are made anew
_NO_WORDS = "\n"  # where there is no instruction: nothing that would change an answer
_BATCH = 32  # requests, while the gate is fitted
_GATED = 512  # training requests that the gate is fitted on, where there is no development set
