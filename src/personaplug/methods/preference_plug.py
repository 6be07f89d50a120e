"""The preference plug: a persona of what a user liked and disliked, learned across users for the frozen model.

Shapes: n: behaviours, e: the encoder's width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import override

from personaplug.core.types import History
from personaplug.data.feedback import answers_of
from personaplug.methods.plug import PlugMethod, PlugMethodConfig
from personaplug.methods.soft.fitting import Objective

_SIDES = ("liked", "disliked")


@dataclass(frozen=True, slots=True)
class PreferencePlugConfig(PlugMethodConfig):
    """The plug's choices where behaviours are feedback on answers.

    Each behaviour has two views: the answer that was liked and the one that was disliked, both by `history_text`; where
    feedback names only one, the other counts as the average. Histories are short, so training sees them down to a tenth
    of their length, the average user takes part in every persona, and prototype users say what little feedback leaves
    open.
    """

    pooling: str = "mean"
    nobody: bool = True
    prototypes: int = 64
    history_text: str | tuple[str, ...] = "{output}"
    objective: Objective = "preference"
    history_dropout: float = 0.9

    def __post_init__(self) -> None:
        PlugMethodConfig.__post_init__(self)
        if not isinstance(self.history_text, str):
            raise ValueError(f"history_text is {self.history_text}, expected one template, for either answer")

    @property
    @override
    def views(self) -> int:
        return len(_SIDES)


class PreferencePlug(PlugMethod):
    """Taste as soft tokens: from triples of a prompt, a liked and a disliked answer, whoever wrote them."""

    Config = PreferencePlugConfig
    summary = "a learned persona of what the user liked and disliked, as soft tokens"
    source = "Persona-Plug, arXiv 2409.11901, on PersonalLLM's feedback, 2409.20296, with SimPO's contrast, 2405.14734"
    needs_preferences = True

    @override
    def views(self, history: History) -> Tensor:
        """The liked and the disliked answer's raw vectors side by side [n, 2·e]; NaN where nothing is said of one."""
        vectors = torch.full((len(history), len(_SIDES), self.encoder_width), torch.nan)
        place = {(b.user, b.id): at for at, b in enumerate(history)}
        for number, side in enumerate(_SIDES):
            answers = tuple(answers_of(history, side))
            if answers:
                rows = self.needed_vectors().embed(History(history.user, answers), *self.templates)
                vectors[[place[b.user, b.id] for b in answers], number] = torch.as_tensor(rows)
        return vectors.flatten(1).to(self.device)
