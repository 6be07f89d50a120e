"""Our Persona-Plug as a method: fit the plug, prepare a user's vectors, pool them for each request.

Shapes: b: batch, n: behaviours (padded), e: encoder width, m: projector width, i + k: prefix tokens, d: model width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from typing_extensions import override

from personaplug.backbones.base import Backbone, TrainableBackbone
from personaplug.encoders.base import TrainableEncoder
from personaplug.errors import ConfigError, MismatchError
from personaplug.methods.base import Layered, encodes_text
from personaplug.plug import Plug, PlugConfig, drop_history
from personaplug.tasks.base import TaskInfo
from personaplug.training import Draw, Length, Training, TrainingConfig, TrainingResult
from personaplug.types import Behavior, Example, History, Needs, Profile, Prompt, Request, State, Weight
from personaplug.vectors import VectorCache

_QUERY_ENCODER = "query_encoder."


class PlugMethod(Layered):
    """One learned persona per user as soft tokens; new users cost no training."""

    Config: ClassVar[type[Any]] = PlugConfig
    summary = "a learned persona per user, as soft tokens in front of the frozen model"
    source = "Persona-Plug, arXiv 2409.11901, with our defaults"
    needs = Needs.TEXT | Needs.PREFIX
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
        if not isinstance(backbone, TrainableBackbone):
            raise MismatchError(
                f"method {self.name!r} needs a backbone that gradients flow through, not {backbone.key!r}"
            )
        self.backbone: TrainableBackbone = backbone
        self.template = config.history_text or (task.history_text if task else "{input} {output}")
        self.device = backbone.device
        self.encoder_width = self.needed_vectors().encoder.width if config.persona_tokens else backbone.width
        self.query_encoder: nn.Module | None = None
        self._build(seed=0)

    def _build(self, seed: int) -> None:
        """Fresh weights from a seed, without disturbing anybody else's random numbers."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            backbone = self.backbone
            self.plug = Plug(self.config, self.encoder_width, backbone.width, backbone.token_norm).to(self.device)
        if self.config.train_query_encoder:
            encoder = self.needed_vectors().encoder
            if not isinstance(encoder, TrainableEncoder):
                raise ConfigError(f"train_query_encoder: encoder {encoder.key!r} cannot be trained; use sentence")
            self.query_encoder = encoder.copy_for_training().to(self.device)
        self._key = ""

    @property
    @override
    def history_text(self) -> str | None:
        return self.template if self.config.persona_tokens else None

    @classmethod
    @override
    def encodes(cls, config: PlugConfig) -> bool:
        return config.persona_tokens > 0 or encodes_text(config.text)

    @property
    def key(self) -> str:
        """Name, weights and encoder: states that another plug prepared are never used."""
        if not self._key:
            encoder = self.vectors.encoder.key if self.vectors else "-"
            self._key = f"{self.name}:{self.weights_digest()}:{encoder}:{self.template}{self.text_key}"
        return self._key

    # -- once, over many users ------------------------------------------------------------------------------------

    @override
    def fit(
        self, train: Sequence[Example], dev: Sequence[Example], training: TrainingConfig, folder: Path
    ) -> TrainingResult:
        """Train the plug on the requests' targets (eq. 6: next-token loss); the backbone stays as it is."""
        self._build(training.seed)
        fitting = Fitting(self, self._with_text([*train, *dev]))
        if self.config.standardize and self.config.persona_tokens:
            self.plug.set_statistics(fitting.matrix[fitting.rows_of(len(train))].to(self.device).float())
        result = Training(
            module=fitting,
            collate=fitting.collate,
            lengths=fitting.lengths[: len(train)],
            config=training,
            folder=folder,
            dev=len(dev),
        ).run()
        self.plug.eval()
        self._key = ""
        return result

    def _with_text(self, examples: Sequence[Example]) -> list[Example]:
        """The examples with the text method's messages, as requests will have them."""
        if self.text is None:
            return list(examples)
        histories = [e.history for e in examples]
        states = self.with_text_states([None] * len(histories), histories)
        profiles = [Profile(h, s) for h, s in zip(histories, states, strict=True)]
        requests = self.text_requests([e.request for e in examples], profiles)
        return [dataclasses.replace(e, request=r) for e, r in zip(examples, requests, strict=True)]

    @override
    def tensors(self) -> dict[str, Tensor]:
        own = dict(self.plug.state_dict())
        if self.query_encoder is not None:
            own |= {_QUERY_ENCODER + k: v for k, v in self.query_encoder.state_dict().items()}
        return own

    @override
    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take trained tensors.

        Raises:
            MismatchError: they are of a plug of another shape.
        """
        own = {k: v for k, v in tensors.items() if not k.startswith(_QUERY_ENCODER)}
        try:
            self.plug.load_state_dict(own)
            if self.query_encoder is not None:
                cut = len(_QUERY_ENCODER)
                self.query_encoder.load_state_dict({k[cut:]: v for k, v in tensors.items() if k not in own})
        except RuntimeError as error:
            cause = str(error).splitlines()[-1].strip()
            raise MismatchError(f"method {self.name!r}: the saved weights do not fit: {cause}") from None
        self.plug.eval()
        self._key = ""

    # -- per user, stored -----------------------------------------------------------------------------------------

    @override
    def prepare(self, history: History) -> State | None:
        """Project the history: keys [n, e] and values [n, m], or the finished prefix where no query is needed."""
        return self.with_text_states([self._prepare(history)], [history])[0]

    @torch.inference_mode()
    def _prepare(self, history: History) -> State | None:
        if not self.config.persona_tokens:
            return None
        keys, values = self._project(history.last(self.config.max_history))
        if self.config.pooling == "mean":
            mask = torch.ones(1, len(keys), dtype=torch.bool, device=self.device)
            weights = self.plug.weights(keys[None], mask, None)
            return {"prefix": self.plug.pool(values[None], weights)[0].cpu().numpy()}
        return {"keys": keys.half().cpu().numpy(), "values": values.half().cpu().numpy()}

    def _project(self, history: History) -> tuple[Tensor, Tensor]:
        keys = self.plug.keys(torch.as_tensor(self.needed_vectors().of(history, self.template)).to(self.device))
        return keys, self.plug.values(keys)

    # -- per request, fast ----------------------------------------------------------------------------------------

    @override
    def personalize(self, request: Request, profile: Profile) -> Prompt:
        return self.personalize_many([request], [profile])[0]

    @override
    def personalize_many(self, requests: Sequence[Request], profiles: Sequence[Profile]) -> list[Prompt]:
        prefixes = self._prefixes(requests, profiles)
        written = self.text_requests(requests, profiles)
        return [
            Prompt(r.messages, prefix=p, position=self.config.position) for r, p in zip(written, prefixes, strict=True)
        ]

    @torch.inference_mode()
    def _prefixes(self, requests: Sequence[Request], profiles: Sequence[Profile]) -> list[Tensor]:
        if not requests:
            return []
        if not self.config.persona_tokens:
            nobody = torch.zeros(1, 0, self.encoder_width, device=self.device)
            return [self.plug(nobody, nobody[..., 0].bool()).prefix[0]] * len(requests)
        states = [p.state if p.state is not None else self._prepare(p.history) for p in profiles]
        if self.config.pooling == "mean":
            return [torch.as_tensor(s["prefix"], device=self.device) for s in states if s is not None]
        values = self._padded([s["values"] for s in states if s is not None])
        return list(self.plug.pool(values, self._weights(requests, [s["keys"] for s in states if s is not None])))

    def _padded(self, rows: Sequence[Any]) -> Tensor:
        return pad_sequence([torch.as_tensor(r).float() for r in rows], batch_first=True).to(self.device)

    def _weights(self, requests: Sequence[Request], keys: Sequence[Any]) -> Tensor:
        mask = self._padded([np.ones(len(k)) for k in keys]).bool()
        query = None if self.config.pooling == "mean" else self.plug.keys(self.queries([r.query for r in requests]))
        return self.plug.weights(self._padded(keys), mask, query)

    def queries(self, texts: Sequence[str]) -> Tensor:
        """Raw query vectors [b, e]; gradients flow where the query encoder is trained."""
        prefixed = [self.config.query_prefix + t for t in texts]
        if self.query_encoder is not None:
            return self.query_encoder(prefixed)
        return torch.as_tensor(self.needed_vectors().query(prefixed)).to(self.device)

    @override
    @torch.inference_mode()
    def explain(self, request: Request, profile: Profile) -> list[Weight]:
        history = profile.history.last(self.config.max_history)
        if not self.config.persona_tokens or not history.behaviors:
            return []
        weights = self._weights([request], [self._project(history)[0].half().cpu().numpy()])[0].tolist()
        pairs = [Weight(b, w) for b, w in zip(history, weights, strict=True)]
        return sorted(pairs, key=lambda w: -w.weight)


class Fitting(nn.Module):
    """The trained modules with everything a batch needs; its parameters are exactly those to train and save."""

    def __init__(self, method: PlugMethod, examples: Sequence[Example]) -> None:
        super().__init__()
        self.plug = method.plug
        self.query_encoder = method.query_encoder
        # In a tuple, torch does not see the method's own modules twice.
        self._parts = (method, method.config)
        self.examples = examples
        self.rows, self.matrix = self._history_matrix(method)
        self.frozen_queries = self._query_matrix(method)
        self.lengths = self._lengths(method)

    def _lengths(self, method: PlugMethod) -> list[Length]:
        """With a late persona the prompt runs without gradients; else everything keeps activations."""
        prompts = [Prompt(e.request.messages) for e in self.examples]
        whole = method.backbone.lengths(prompts, [e.target for e in self.examples])
        if method.config.position == "first":
            return [(n, 0) for n in whole]
        before = method.backbone.lengths(prompts, [""] * len(prompts))
        return [(n - m, m) for n, m in zip(whole, before, strict=True)]

    def _history_matrix(self, method: PlugMethod) -> tuple[list[Tensor], Tensor]:
        """Each behaviour's vector once [N, e] (float16, as stored), and each example's rows of it."""
        if not method.config.persona_tokens:
            return [torch.zeros(0, dtype=torch.long)] * len(self.examples), torch.zeros(0, method.encoder_width)
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
        vectors = method.needed_vectors().of(History("", tuple(behaviors)), method.template)
        return rows, torch.as_tensor(vectors).half()

    def _query_matrix(self, method: PlugMethod) -> Tensor | None:
        config = method.config
        if not config.persona_tokens or config.pooling == "mean" or config.train_query_encoder:
            return None
        return method.queries([e.request.query for e in self.examples]).cpu()

    def rows_of(self, count: int) -> Tensor:
        """The distinct rows of the first `count` examples' histories."""
        return torch.cat(self.rows[:count]).unique()

    def collate(self, draws: list[Draw]) -> dict[str, Any]:
        """A batch: which examples, their histories' vectors [b, n, e] and mask [b, n], queries [b, e] or None."""
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
            "vectors": pad_sequence(picked, batch_first=True),
            "mask": pad_sequence([torch.ones(len(p), dtype=torch.bool) for p in picked], batch_first=True),
            "query": None if self.frozen_queries is None else self.frozen_queries[index],
        }

    def forward(self, index: Tensor, vectors: Tensor, mask: Tensor, query: Tensor | None) -> Tensor:
        """Loss of each request [b]."""
        method, config = self._parts
        picked = [self.examples[i] for i in index.tolist()]
        if self.query_encoder is not None and config.pooling == "softmax":
            query = method.queries([e.request.query for e in picked])
        prefix = self.plug(vectors, mask, query).prefix
        prompts = [Prompt(e.request.messages, p, config.position) for e, p in zip(picked, prefix, strict=True)]
        return method.backbone.loss(prompts, [e.target for e in picked])
