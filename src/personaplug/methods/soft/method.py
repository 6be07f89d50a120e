"""What methods of soft tokens share: a module in front of a frozen model, built from a seed, trained and saved."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import override

from personaplug.backbones.base import Backbone, SoftBackbone, TrainableBackbone
from personaplug.core.errors import ConfigError, MismatchError
from personaplug.core.types import Conditioning, Example, Profile
from personaplug.encoders.cache.embeddings import VectorCache
from personaplug.methods.base import OnTopOfText
from personaplug.methods.soft.fitting import PlugTraining, PromptTraining
from personaplug.tasks.base import TaskInfo
from personaplug.training.config import TrainingConfig, TrainingResult
from personaplug.training.trainer import Training


class SoftMethod(OnTopOfText):
    """Soft tokens in front of a frozen model. Its configuration has `position`, `start`, `objective` and `text`."""

    needs = Conditioning.TEXT | Conditioning.PREFIX
    trained = True
    SAVED_AS: ClassVar[Mapping[str, str]] = {}
    """Names of tensors in artifacts, where the code has other ones since."""

    def __init__(
        self,
        config: Any,
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
        if config.objective == "options" and task is not None and task.kind not in ("choice", "rating"):
            raise ConfigError(
                f"method {self.name!r}: objective 'options' needs a task of kind choice or rating, and "
                f"{task.name!r} is of kind {task.kind}; use nll"
            )
        self.backbone: SoftBackbone = backbone
        self.device = backbone.device
        self._digest = ""

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

    @abstractmethod
    def parts(self) -> dict[str, nn.Module]:
        """The modules that an artifact keeps, and how the names of their tensors begin; the first begins with ""."""

    def first_words(self) -> Tensor | None:
        """Embeddings [w, d] of the words that soft tokens start as; None for a random start."""
        if self.config.start != "words":
            return None
        words = self.backbone.words((self.task.instruction if self.task else "") or _NO_WORDS)
        return words.float() if len(words) else None  # a tokenizer may have no line breaks

    def train_module(
        self,
        module: PlugTraining | PromptTraining,
        sizes: tuple[int, int],
        training: TrainingConfig,
        folder: Path,
    ) -> TrainingResult:
        """Run a training of `sizes` training and development requests, which stand in this order."""
        train, dev = sizes
        lengths = module.targets.lengths()[:train]
        result = Training(
            module=module, collate=module.collate, lengths=lengths, config=training, folder=folder, dev=dev
        ).run()
        module.eval()
        self._digest = ""
        return result

    def with_text(self, examples: Sequence[Example]) -> list[Example]:
        """The examples with the text method's messages, as requests will have them."""
        if self.text is None:
            return list(examples)
        histories = [e.history for e in examples]
        states = self.with_text_states([None] * len(histories), histories)
        profiles = [Profile(h, s) for h, s in zip(histories, states, strict=True)]
        requests = self.text_requests([e.request for e in examples], profiles)
        return [dataclasses.replace(e, request=r) for e, r in zip(examples, requests, strict=True)]

    # -- artifacts ------------------------------------------------------------------------------------------------

    @override
    def weights_digest(self) -> str:
        self._digest = self._digest or super().weights_digest()
        return self._digest

    @override
    def tensors(self) -> dict[str, Tensor]:
        named = {f"{part}{k}": v for part, module in self.parts().items() for k, v in learned_tensors(module).items()}
        return {self.SAVED_AS.get(name, name): tensor for name, tensor in named.items()}

    @override
    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take trained tensors.

        Raises:
            MismatchError: they are of a module of another shape.
        """
        names = {saved: name for name, saved in self.SAVED_AS.items()}
        left = {names.get(k, k): v for k, v in tensors.items()}
        try:
            for part, module in reversed(self.parts().items()):
                given = {k.removeprefix(part): left.pop(k) for k in [k for k in left if k.startswith(part)]}
                own = learned_tensors(module)
                module.load_state_dict({**{k: v for k, v in module.state_dict().items() if k not in own}, **given})
                module.eval()
        except RuntimeError as error:
            cause = str(error).splitlines()[-1].strip()
            raise MismatchError(f"method {self.name!r}: the saved weights do not fit: {cause}") from None
        self._digest = ""


def learned_tensors(module: nn.Module) -> dict[str, Tensor]:
    """A module's tensors without its frozen parameters."""
    frozen = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
    return {k: v for k, v in module.state_dict().items() if k not in frozen}


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """In here torch draws from a seed, without disturbing anybody else's random numbers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


_NO_WORDS = "\n"  # where there is no instruction: nothing that would change an answer
