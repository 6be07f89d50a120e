"""No personalization: the messages as they are."""

from __future__ import annotations

from typing_extensions import override

from personaplug.core.config import NoConfig
from personaplug.core.types import Profile, Prompt, Request
from personaplug.methods.base import Method


class NoMethod(Method):
    """The frozen model alone; what every other method is compared with."""

    Config = NoConfig
    summary = "the frozen model alone"
    source = "–"
    personal = False

    @override
    def personalize(self, request: Request, profile: Profile) -> Prompt:
        del profile
        return Prompt(request.messages)
