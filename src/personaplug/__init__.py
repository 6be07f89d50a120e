"""personaplug: one learned persona per user, in front of any frozen language model."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from personaplug.core.version import __version__

# Public name -> module. Resolved on first use, so that `import personaplug` never imports torch.
_HOMES = {
    "Behavior": "core.types",
    "History": "core.types",
    "Message": "core.types",
    "PersonaplugError": "core.errors",
    "Personalizer": "pipeline.personalizer",
    "Request": "core.types",
    "Sampling": "core.types",
}

__all__ = ["Behavior", "History", "Message", "Personalizer", "PersonaplugError", "Request", "Sampling", "__version__"]

if TYPE_CHECKING:
    from personaplug.core.errors import PersonaplugError
    from personaplug.core.types import Behavior, History, Message, Request, Sampling
    from personaplug.pipeline.personalizer import Personalizer


def __getattr__(name: str) -> Any:
    """Import a public name's home on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'personaplug' has no attribute {name!r}")
    return getattr(importlib.import_module(f"personaplug.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
