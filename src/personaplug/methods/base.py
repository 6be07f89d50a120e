"""What every method does, on three clocks: fit once, prepare per user, personalize per request."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from personaplug.types import Example, History, Needs, Profile, Prompt, Request, State, Weight

if TYPE_CHECKING:
    import torch

    from personaplug.backbones.base import Backbone
    from personaplug.tasks.base import TaskInfo
    from personaplug.training import TrainingConfig, TrainingResult
    from personaplug.vectors import VectorCache


class Method(ABC):
    """A way of personalizing. Built as `Method(config, backbone=..., vectors=...)`; the pair is checked when built.

    Args:
        config: the method's `Config`.
        backbone: the frozen model that its prompts are for.
        vectors: where vectors of behaviours come from; methods that need none ignore it.
        task: how requests and behaviours are put into words.
    """

    Config: ClassVar[type[Any]]
    summary: ClassVar[str]
    source: ClassVar[str]
    needs: ClassVar[Needs] = Needs.TEXT
    trained: ClassVar[bool] = False  # whether `fit` learns something that `save` must keep

    def __init__(
        self, config: Any, *, backbone: Backbone, vectors: VectorCache | None = None, task: TaskInfo | None = None
    ) -> None:
        self.config = config
        self.backbone = backbone
        self.vectors = vectors
        self.task = task
        backbone.check(self.needs, f"method {self.name!r}")

    @property
    def name(self) -> str:
        """The name on the shelf."""
        return type(self).__module__.rsplit(".", 1)[-1]

    @property
    def key(self) -> str:
        """Identity of what `prepare` makes: states of another key are never used."""
        return self.name

    def fit(
        self, train: Sequence[Example], dev: Sequence[Example], training: TrainingConfig, folder: Path
    ) -> TrainingResult | None:
        """Learn from many users, once; resumes from `folder` if an earlier fit was killed there."""
        del train, dev, training, folder
        return None

    def tensors(self) -> dict[str, torch.Tensor]:
        """What an artifact keeps of a trained method, by name."""
        return {}

    def load_tensors(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Take the tensors of an artifact."""
        del tensors

    def prepare(self, history: History) -> State | None:
        """What to store of a user, or None."""
        del history
        return None

    @abstractmethod
    def personalize(self, request: Request, profile: Profile) -> Prompt:
        """What the backbone shall see for this request of this user; fast."""

    def personalize_many(self, requests: Sequence[Request], profiles: Sequence[Profile]) -> list[Prompt]:
        """`personalize` for a batch; gives what each gives alone."""
        return [self.personalize(r, p) for r, p in zip(requests, profiles, strict=True)]

    def explain(self, request: Request, profile: Profile) -> list[Weight]:
        """Which behaviours carried the persona for this request, heaviest first; empty if none did."""
        del request, profile
        return []
