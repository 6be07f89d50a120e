"""The control: a soft prompt of the same size, trained on the same requests, that knows no user.

Shapes: i: soft tokens, d: the language model's width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from typing_extensions import override

from personaplug.backbones.base import Backbone
from personaplug.core.config import retired
from personaplug.core.types import Example, History, Profile, Prompt, Request, State
from personaplug.encoders.cache.embeddings import VectorCache
from personaplug.methods.base import text_needs_encoder
from personaplug.methods.soft.fitting import Objective, PromptTraining, Targets
from personaplug.methods.soft.method import SoftMethod, seeded
from personaplug.plug.instruction import learned_instruction, repeat_words
from personaplug.tasks.base import TaskInfo
from personaplug.training.config import TrainingConfig, TrainingResult


class SoftPrompt(nn.Module):
    """Soft tokens [i, d] without a user, at first of the length of natural tokens.

    Args:
        tokens: i.
        model_width: d.
        token_norm: mean L2 norm of the language model's token embeddings.
    """

    start: Tensor
    instruction_norm: Tensor

    def __init__(self, tokens: int, model_width: int, token_norm: float) -> None:
        super().__init__()
        self.scale = token_norm
        self.instruction, self.instruction_mlp, norm = learned_instruction(tokens, model_width, model_width)
        self.register_buffer("start", torch.zeros(tokens, model_width))
        self.register_buffer("instruction_norm", norm)

    @torch.no_grad()
    def start_from(self, words: Tensor) -> None:
        """Begin at the embeddings of words [w, d], repeated as needed."""
        self.start.copy_(repeat_words(words, len(self.start)))
        for parameter in self.instruction_mlp[2].parameters():
            parameter.zero_()

    def forward(self) -> Tensor:
        """The soft tokens [i, d]."""
        tokens: Tensor = self.start + self.scale * self.instruction_mlp(self.instruction) / self.instruction_norm
        return tokens


@retired(
    persona_tokens=0, pooling="mean+nearest", nobody=False, temperature=1.0, unit_length=False, standardize=True,
    prototypes=0, history_text=["{input}", "{output}"], query_encoder="frozen", history_dropout=0.5, max_history=512,
    gate=False, peers=0, projector_width=0, scale=0.0, query_prefix="", teacher={},
)  # fmt: skip
@dataclass(frozen=True, slots=True)
class TaskPromptConfig:
    """By default as many soft tokens as our plug has.

    Attributes:
        instruction_tokens: i, at least 1.
        position: `first` (before the whole prompt) or `last` (right before the answer).
        start: what they are before training: `random`, or the last `words` of the task's instruction.
        objective: what is learnt, as in the plug.
        text: section of a text method whose messages they join.
    """

    instruction_tokens: int = 5
    position: Literal["first", "last"] = "last"
    start: Literal["random", "words"] = "words"
    objective: Objective = "nll"
    text: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.instruction_tokens < 1:
            raise ValueError(f"instruction_tokens is {self.instruction_tokens}, expected at least 1")


class TaskPrompt(SoftMethod):
    """What is left of a gain over this row is personal; the rest is mere task tuning."""

    Config = TaskPromptConfig
    summary = "a learned soft prompt without a user: the control that shows mere task tuning"
    personal = False
    source = "prompt tuning, arXiv 2104.08691; as a control, docs/design.md section 5"
    config: TaskPromptConfig

    def __init__(
        self,
        config: TaskPromptConfig,
        *,
        backbone: Backbone,
        vectors: VectorCache | None = None,
        task: TaskInfo | None = None,
    ) -> None:
        super().__init__(config, backbone=backbone, vectors=vectors, task=task)
        self._build(seed=0)

    def _build(self, seed: int) -> None:
        with seeded(seed):
            tokens, backbone = self.config.instruction_tokens, self.backbone
            self.prompt = SoftPrompt(tokens, backbone.width, backbone.token_norm).to(self.device)
        words = self.first_words()
        if words is not None:
            self.prompt.start_from(words)

    @classmethod
    @override
    def needs_encoder(cls, config: TaskPromptConfig) -> bool:
        return text_needs_encoder(config.text)

    @property
    @override
    def key(self) -> str:
        return f"{self.name}:{self.weights_digest()}{self.text_key}"

    @override
    def parts(self) -> dict[str, nn.Module]:
        return {"": self.prompt}

    @override
    def fit(
        self, train: Sequence[Example], dev: Sequence[Example], training: TrainingConfig, folder: Path
    ) -> TrainingResult:
        """Train the soft prompt on the requests' targets; the backbone stays as it is."""
        self._build(training.seed)
        config = self.config
        targets = Targets(self.trainable, self.with_text([*train, *dev]), config.position, config.objective)
        return self.train_module(PromptTraining(self.prompt, targets), (len(train), len(dev)), training, folder)

    @override
    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take trained tensors; those of the plug without a persona that this was before are read too."""
        own = self.tensors()
        super().load_tensors({k: v for k, v in tensors.items() if k in own})

    @override
    def prepare(self, history: History) -> State | None:
        return self.with_text_states([None], [history])[0]

    @override
    def personalize(self, request: Request, profile: Profile) -> Prompt:
        return self.personalize_many([request], [profile])[0]

    @override
    @torch.inference_mode()
    def personalize_many(self, requests: Sequence[Request], profiles: Sequence[Profile]) -> list[Prompt]:
        prefix, position = self.prompt(), self.config.position
        return [Prompt(r.messages, prefix, position) for r in self.text_requests(requests, profiles)]
