"""Where models come from: a bundle (weights inside a package), a folder, or a hub id; importing this loads nothing."""

from __future__ import annotations

from personaplug.models.bundles import BUNDLES, Bundle
from personaplug.models.cache import cache_dir
from personaplug.models.names import ResolvedModel, resolve
from personaplug.models.pulling import Available, available, pull

__all__ = ["BUNDLES", "Available", "Bundle", "ResolvedModel", "available", "cache_dir", "pull", "resolve"]
