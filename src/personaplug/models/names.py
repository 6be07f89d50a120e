"""From a model's name to where its weights are and which they are; loads nothing."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from personaplug.core.errors import ModelError, did_you_mean
from personaplug.core.registry import missing_extra
from personaplug.models.bundles import BUNDLES
from personaplug.models.packages import sha256_of
from personaplug.models.pulling import bundle_folder

_NOTE = ".personaplug.json"  # the weights' checksum, stored beside them
# Where weights lie in a folder; the first pattern with a match counts, with those of its numbered modules.
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin", "onnx/*.onnx")


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A model that can be loaded.

    Attributes:
        name: as the user wrote it.
        location: a folder, or a hub id: what `from_pretrained` takes.
        identity: which weights: the name and a hash of them (a hub's commit), "smollm2-135m@0123456789ab".
        license: of the weights, or "unknown".
        source: bundle, folder or hub.
        revision: the hub's commit, else None.
    """

    name: str
    location: str
    identity: str
    license: str
    source: Literal["bundle", "folder", "hub"]
    revision: str | None = None


def resolve(name: str) -> ResolvedModel:
    """A model by bundle name, folder, or hub id ("owner/model", with an optional "@revision"), tried in this order.

    A hub id that was never loaded here has its config.json fetched, so that its identity is the commit from the start.

    Raises:
        ModelError: a bundle that was not pulled, a folder without a model, an unreachable hub id, or an unknown name.
        MissingExtraError: a hub id, and the hub's library is not installed.
    """
    if name in BUNDLES:
        return _bundle(name)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _folder(name, folder)
    if "/" in name and not name.startswith(("/", "./", "../", "~")):
        return _hub(name)
    raise ModelError(f"no model is named {name!r}, and it is no folder; {did_you_mean(name, BUNDLES)}")


def _bundle(name: str) -> ResolvedModel:
    folder = bundle_folder(BUNDLES[name])
    if not folder.is_dir():
        raise ModelError(f"model {name!r} is not here: personaplug models pull {name}")
    return ResolvedModel(name, str(folder), f"{name}@{weights_hash(folder)}", BUNDLES[name].license, "bundle")


def _folder(name: str, folder: Path) -> ResolvedModel:
    if not (folder / "config.json").is_file():
        raise ModelError(f"model {name!r}: the folder has no config.json; name a folder that save_pretrained wrote")
    identity = f"{folder.resolve().name}@{weights_hash(folder)}"
    return ResolvedModel(name, str(folder), identity, "unknown", "folder")


def _hub(name: str) -> ResolvedModel:
    repo, _, revision = name.partition("@")
    commit = _hub_commit(repo, revision or None)
    return ResolvedModel(name, repo, f"{repo}@{commit[:12]}", "unknown", "hub", commit)


def _hub_commit(repo: str, revision: str | None) -> str:
    """The commit of the local snapshot, else of the hub's."""
    try:
        from huggingface_hub import hf_hub_download, try_to_load_from_cache
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    except ModuleNotFoundError as error:
        raise missing_extra(f"the hub id {repo!r}", error) from error
    way_out = f"name a folder that is there or a bundle; {did_you_mean(repo, BUNDLES)}"
    try:
        cached = try_to_load_from_cache(repo, "config.json", revision=revision)
        if not isinstance(cached, str):
            cached = hf_hub_download(repo, "config.json", revision=revision)
    except LocalEntryNotFoundError as error:
        raise ModelError(f"model {repo!r} is not on this machine and no hub is reached: {way_out}") from error
    except HFValidationError as error:
        raise ModelError(f"model {repo!r} is neither a folder nor a hub id: {way_out}") from error
    except (HfHubHTTPError, OSError) as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ModelError(f"model {repo!r} cannot be had from the hub ({reason}): {way_out}") from error
    return Path(cached).parent.name  # .../snapshots/<commit>/config.json


def weights_hash(folder: Path) -> str:
    """First 12 hex digits of the sha256 of a folder's weights; stored beside them, so that it is computed once.

    Raises:
        ModelError: the folder holds no weights.
    """
    files = _weights(folder)
    if not files:
        raise ModelError(f"model folder {folder}: no weights in it; expected {' or '.join(_WEIGHTS)}")
    stamp = [[f.relative_to(folder).as_posix(), f.stat().st_size, f.stat().st_mtime_ns] for f in files]
    note = folder / _NOTE
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # absent or damaged: computed anew
        noted = json.loads(note.read_text(encoding="utf-8"))
        if noted["files"] == stamp:
            return str(noted["sha256"])[:12]
    sums = [sha256_of(f) for f in files]
    total = sums[0] if len(sums) == 1 else hashlib.sha256("".join(sums).encode()).hexdigest()
    with contextlib.suppress(OSError):  # a read-only folder is hashed each time
        fresh = folder / f"{_NOTE}.{os.getpid()}"
        fresh.write_text(json.dumps({"files": stamp, "sha256": total}), encoding="utf-8")
        fresh.replace(note)
    return total[:12]


def _weights(folder: Path) -> list[Path]:
    for pattern in _WEIGHTS:
        files = sorted(folder.glob(pattern))
        if files:
            return [*files, *sorted(folder.glob(f"[0-9]*_*/{pattern}"))]
    return []
