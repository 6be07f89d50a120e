"""Where models come from: a bundle (weights inside a package), a folder, or a hub id; importing this loads nothing."""

from __future__ import annotations

from personaplug.models.bundles import BUNDLES, Bundle
from personaplug.models.cache import cache_dir
from personaplug.models.pull import Available, available, pull
from personaplug.models.resolve import ResolvedModel, resolve

__all__ = ["BUNDLES", "Available", "Bundle", "ResolvedModel", "available", "cache_dir", "pull", "resolve"]
