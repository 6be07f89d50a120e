"""The control: a soft prompt of the same size, trained on the same requests, that knows no user."""

from __future__ import annotations

from dataclasses import dataclass

from personaplug.methods.plug import PlugMethod
from personaplug.plug.model import PlugConfig


@dataclass(frozen=True, slots=True)
class TaskPromptConfig(PlugConfig):
    """As many soft tokens as our plug has, none of which sees a history."""

    persona_tokens: int = 0
    instruction_tokens: int = 5


class TaskPrompt(PlugMethod):
    """What is left of a gain over this row is personal; the rest is mere task tuning."""

    Config = TaskPromptConfig
    summary = "a learned soft prompt without a user: the control that shows mere task tuning"
    personal = False
    source = "prompt tuning, arXiv 2104.08691; as a control, docs/design.md section 5"
