"""Save and load what was trained: safetensors, config.json, a model card; other parts are refused."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from personaplug.core.config import from_mapping, to_mapping
from personaplug.core.errors import MismatchError, ModelError
from personaplug.core.registry import Section
from personaplug.core.version import __version__
from personaplug.pipeline.shipped import shipped_plug
from personaplug.tasks.base import TaskInfo

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
CARD = "README.md"


@dataclass(frozen=True, slots=True)
class ComponentSpec:
    """A backbone or encoder that an artifact was trained with: how to build it again, and what identifies it.

    Attributes:
        name: its name on the shelf.
        key: identity of its weights.
        width: d of a backbone, e of an encoder.
        config: its configuration as plain data.
    """

    name: str
    key: str
    width: int = 0
    config: Mapping[str, Any] = field(default_factory=dict)

    def section(self, kind: str) -> Section:
        """What builds it again."""
        return Section(kind, self.name, self.config)


@dataclass(frozen=True, slots=True)
class ArtifactInfo:
    """What `config.json` says.

    Attributes:
        method: name of the method.
        config: the method's configuration as plain data.
        backbone: the frozen model that it was trained against.
        encoder: where its vectors come from, or None.
        task: how requests are put.
        data: what it was trained on, in words and numbers.
        scores: what was measured, by name.
        training: the training's configuration as plain data.
        version: of personaplug.
    """

    method: str
    config: Mapping[str, Any]
    backbone: ComponentSpec
    task: TaskInfo
    encoder: ComponentSpec | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    version: str = __version__

    def check(self, backbone: ComponentSpec, encoder: ComponentSpec | None) -> None:
        """Refuse a backbone or an encoder of another identity or width.

        Raises:
            MismatchError: names both identities and the way out.
        """
        for what, mine, given in (("backbone", self.backbone, backbone), ("encoder", self.encoder, encoder)):
            if mine is None:
                continue
            if given is None or (mine.key, mine.width) != (given.key, given.width):
                got = "none" if given is None else f"{given.key} (width {given.width})"
                raise MismatchError(
                    f"this {self.method} was trained against {what} {mine.key} (width {mine.width}), got {got}; "
                    f"load that {what}, or train again against this one"
                )


def save_pretrained(folder: Path, info: ArtifactInfo, tensors: Mapping[str, Any]) -> None:
    """Write an artifact; a folder that is there is replaced as a whole, never half."""
    from safetensors.torch import save_file

    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, fresh / WEIGHTS)
    (fresh / CONFIG).write_text(json.dumps(to_mapping(info), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (fresh / CARD).write_text(model_card(info), encoding="utf-8")
    fresh.chmod(0o755)
    if folder.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
        folder.replace(old / "old")
        fresh.replace(folder)
        shutil.rmtree(old)
    else:
        fresh.replace(folder)


def is_artifact(folder: Path) -> bool:
    """Whether a folder holds an artifact, and not for example a model, which has a `config.json` too."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and {"method", "backbone", "task"} <= config.keys()


def load_info(folder: Path) -> ArtifactInfo:
    """What the artifact in `folder` is.

    Raises:
        ModelError: the folder holds no artifact, or one that cannot be read.
    """
    path = folder / CONFIG
    try:
        return from_mapping(ArtifactInfo, json.loads(path.read_text(encoding="utf-8")), where=str(path))
    except FileNotFoundError:
        raise ModelError(f"{folder}: no trained plug here (no {CONFIG}); train one with: personaplug train") from None
    except json.JSONDecodeError as error:
        raise ModelError(f"{path}: not JSON at line {error.lineno}; train again or fetch the artifact again") from None


def load_tensors(folder: Path) -> dict[str, Any]:
    """The artifact's tensors.

    Raises:
        ModelError: the weights are missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / WEIGHTS
    try:
        return load_file(path)
    except FileNotFoundError:
        raise ModelError(f"{folder}: {WEIGHTS} is missing; train again or fetch the artifact again") from None
    except SafetensorError as error:
        raise ModelError(f"{path}: damaged ({error}); train again or fetch the artifact again") from None


def locate(name: str) -> Path:
    """A folder as it is, else the plug that is shipped for the model of this name, else a hub repository, fetched.

    Raises:
        ModelError: neither a folder nor a repository that can be fetched.
    """
    folder = Path(name).expanduser()
    if not is_artifact(folder) and (shipped := shipped_plug(name)) is not None:
        return shipped
    if folder.is_dir() or "/" not in name or folder.is_absolute() or name.startswith("."):
        return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(snapshot_download(name, allow_patterns=[WEIGHTS, CONFIG, CARD]))
    except (HfHubHTTPError, OSError, ValueError) as error:
        cause = str(error).splitlines()[0]
        raise ModelError(f"{name}: no such folder, and the hub does not give it: {cause}") from None


def push_to_hub(folder: Path, repo: str, *, private: bool = True) -> str:
    """Upload an artifact to a hub repository; returns its address."""
    from huggingface_hub import HfApi

    load_info(folder)
    api = HfApi()
    api.create_repo(repo, private=private, exist_ok=True)
    return str(api.upload_folder(repo_id=repo, folder_path=folder, allow_patterns=[WEIGHTS, CONFIG, CARD]))


def model_card(info: ArtifactInfo) -> str:
    """The artifact's README: base model, encoder, data, scores."""
    encoder = f"`{info.encoder.key}` (width {info.encoder.width})" if info.encoder else "none"
    base = info.backbone.config.get("model", info.backbone.key)
    lines = [
        "---",
        "library_name: personaplug",
        f"base_model: {base}",
        "tags: [personalization, soft-prompt, persona-plug]",
        "---",
        "",
        f"# {info.method} for {info.task.name}",
        "",
        *_WHAT[bool(info.training)],
        "",
        f"- backbone: `{info.backbone.key}` (width {info.backbone.width}), frozen",
        f"- encoder: {encoder}",
        f"- task: {info.task.name}: {info.task.instruction or 'no instruction'}",
        f"- {'trained' if info.training else 'made'} with personaplug {info.version}",
        "",
        *_table("Data", info.data),
        *_table("Scores", info.scores),
        *_table("Method", info.config),
        *_table("Training", info.training),
    ]
    return "\n".join(lines) + "\n"


_WHAT = {
    True: [
        "A plug for personaplug: it turns a user's history into soft tokens for a frozen language model",
        "(Persona-Plug, arXiv 2409.11901).",
    ],
    False: ["A method of personaplug that needs no training, with its frozen language model and its task."],
}
"""By whether something was trained."""


def _table(title: str, rows: Mapping[str, Any]) -> list[str]:
    if not rows:
        return []
    return [f"## {title}", "", "| | |", "|---|---|", *(f"| {k} | {v} |" for k, v in rows.items()), ""]
