"""The cache: what was pulled lies here, each thing in a folder that is either complete or not there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from personaplug.models.packages import PackageError


def cache_dir() -> Path:
    """Where pulled models and data lie: $PERSONAPLUG_CACHE, else the user's cache folder of this system."""
    import platformdirs

    chosen = os.environ.get("PERSONAPLUG_CACHE")
    return Path(chosen).expanduser().absolute() if chosen else Path(platformdirs.user_cache_dir("personaplug"))


def install(folder: Path, build: Callable[[Path], None]) -> Path:
    """`folder`, filled by `build` unless it is there already.

    `build` works in a hidden folder beside it, which is renamed when complete: a kill at any moment leaves nothing
    that looks complete. Of several processes one builds and the others wait for it.

    Args:
        folder: where the result shall lie.
        build: fills the empty folder that it is given.

    Raises:
        PackageError: the disk is full or the cache cannot be written; names the folder and the way out.
    """
    from filelock import FileLock

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f".{folder.name}.lock"):
            if not folder.is_dir():
                _build(folder, build)
    except OSError as error:
        if error.errno is None:  # a library's own complaint, not the system's
            raise
        raise PackageError(f"cannot write {folder}: {error}; free some space or set PERSONAPLUG_CACHE") from error
    return folder


def _build(folder: Path, build: Callable[[Path], None]) -> None:
    work = folder.parent / f".{folder.name}.partial"
    if work.exists():  # left by a process that was killed: the lock says that nobody is at it
        shutil.rmtree(work)
    work.mkdir()
    try:
        build(work)
        work.replace(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
