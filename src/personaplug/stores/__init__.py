"""Stores hold users' behaviours, vectors and prepared states; a file here is looked up by its name."""

from __future__ import annotations

from pathlib import Path

from personaplug.core.registry import Section

DEFAULT = "sql"
"""The store that a path or an address stands for where no other is named."""


def store_section(url: str | Path) -> Section:
    """The section of the default store at a path or an address."""
    return Section("store", DEFAULT, {"url": str(url)})
