"""The idea: from a history to soft tokens. Knows torch and nothing of the rest of the package."""

from personaplug.plug.model import Plug, PlugConfig
from personaplug.plug.pooling import POOLINGS

__all__ = ["POOLINGS", "Plug", "PlugConfig"]
