"""Persona-Plug as published: one persona token and one instruction token before the prompt, no temperature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from personaplug.methods.plug import PlugMethod, PlugMethodConfig


@dataclass(frozen=True, slots=True)
class PaperConfig(PlugMethodConfig):
    """The paper's choices; each can still be set.

    The one deliberate difference: the scale is the backbone's own mean token-embedding norm, where the released code
    has 539.9738, a constant that fits one model. Give encoders that want it their own `query_prefix`; for BGE it is
    "Represent this sentence for searching relevant passages:".
    """

    persona_tokens: int = 1
    instruction_tokens: int = 1
    position: Literal["first", "last"] = "first"
    pooling: str = "softmax"
    start: Literal["random", "words"] = "random"
    history_text: str | tuple[str, ...] = ""
    unit_length: bool = True
    standardize: bool = False
    query_encoder: Literal["frozen", "full"] = "full"


class PaperPlug(PlugMethod):
    """The faithful preset: equations 3 to 5 with the released code's details."""

    Config = PaperConfig
    summary = "Persona-Plug exactly as published, with the backbone's own scale"
    source = "arXiv 2409.11901, section 3"
