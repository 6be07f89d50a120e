"""The newest behaviours, as text."""

from __future__ import annotations

from collections.abc import Sequence

from typing_extensions import override

from personaplug.core.types import Profile, Request
from personaplug.methods.retrieval import Retrieval, RetrievalConfig


class Recent(Retrieval):
    """Newest first."""

    Config = RetrievalConfig
    summary = "the newest k behaviours in the prompt"
    source = "LaMP, arXiv 2304.11406, section 3"

    @override
    def rank(self, requests: Sequence[Request], profiles: Sequence[Profile]) -> list[list[int]]:
        return [list(range(len(p.history)))[::-1] for p in profiles]
