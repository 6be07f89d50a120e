"""Prepared users on disk, by content: what a language model wrote about a history is written once."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import numpy as np

from personaplug.core.types import History, State

if TYPE_CHECKING:
    from personaplug.methods.base import Method


class StateCache:
    """States of methods that are slow to prepare: `folder/KEY/HISTORY.npz`, digests of method key and history."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def prepare(self, method: Method, histories: Sequence[History]) -> list[State | None]:
        """`method.prepare_many`, of which only what is not here yet is run; states of other methods are not stored."""
        if not method.slow_prepare:
            return method.prepare_many(histories)
        paths = [self._path(method, h) for h in histories]
        missing = [i for i, path in enumerate(paths) if self._load(path) is None]
        for i, state in zip(missing, method.prepare_many([histories[i] for i in missing]), strict=True):
            self._save(paths[i], state)
        return [self._load(path) or None for path in paths]

    def _path(self, method: Method, history: History) -> Path:
        key = hashlib.blake2b(method.key.encode(), digest_size=8).hexdigest()
        return self.folder / key / f"{history.digest}.npz"

    def _load(self, path: Path) -> State | None:
        """The arrays; {} is a user of whom there is nothing to store; None: not here, or damaged by a full disk."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return dict(arrays)
        except (FileNotFoundError, BadZipFile, ValueError, EOFError):
            return None

    def _save(self, path: Path, state: State | None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
        with os.fdopen(handle, "wb") as file:
            np.savez(file, **dict(state or {}))  # type: ignore[arg-type]
        Path(name).replace(path)
