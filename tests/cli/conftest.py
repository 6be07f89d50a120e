"""What the tests of the commands use: the command, a file of two users, a store of them, and two artifacts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

LINES = """\
{"user": "ada", "id": "1", "at": 100, "input": "what is your favourite colour", "output": "red"}
{"user": "ada", "id": "2", "at": 200.5, "input": "tell me more", "output": "yes please", "rating": 0.5}
{"user": "bob", "id": "1", "at": "1970-01-01T00:05:00Z", "output": "blue", "fields": {"mood": "calm"}}
"""

Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs the command in an empty folder with the given words."""
    from personaplug.cli import app

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PERSONAPLUG_STORE", raising=False)

    def invoke(*words: object, typed: str | None = None) -> Result:
        result = CliRunner().invoke(app, [str(w) for w in words], input=typed)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke


@pytest.fixture
def behaviors(tmp_path: Path) -> Path:
    """A file of two users' behaviours."""
    path = tmp_path / "behaviors.jsonl"
    path.write_text(LINES, encoding="utf-8")
    return path


@pytest.fixture
def store(behaviors: Path, tmp_path: Path) -> Path:
    """A store that holds them."""
    from personaplug.core.registry import build
    from personaplug.data.ingest import ingest

    path = tmp_path / "users.db"
    opened = build("store", "sql", {"url": str(path)})
    ingest(behaviors, opened)
    opened.close()
    return path


@pytest.fixture
def echo(tmp_path: Path) -> Path:
    """An artifact without a model: it answers with the request."""
    from personaplug.pipeline.artifacts import ArtifactInfo, ComponentSpec, save_pretrained
    from personaplug.tasks.base import TaskInfo

    folder = tmp_path / "echo"
    save_pretrained(folder, ArtifactInfo("none", {}, ComponentSpec("echo", "echo"), task=TaskInfo("chat", "text")), {})
    return folder


@pytest.fixture
def plug(tiny_causal: Path, tmp_path: Path) -> Path:
    """A plug of a tiny random model, as it is before any training."""
    from personaplug.core.config import to_mapping
    from personaplug.core.registry import build
    from personaplug.core.types import Sampling
    from personaplug.encoders.cache.embeddings import VectorCache
    from personaplug.pipeline.artifacts import ArtifactInfo, ComponentSpec, save_pretrained
    from personaplug.tasks.base import TaskInfo

    info = TaskInfo("chat", "text", sampling=Sampling(max_tokens=4))
    model = {"model": str(tiny_causal), "dtype": "float32", "device": "cpu"}
    backbone = build("backbone", "causal", model)
    encoder = build("encoder", "hashing", {"width": 16})
    method = build("method", "plug", {}, backbone=backbone, vectors=VectorCache(encoder), task=info)
    parts = {
        "backbone": ComponentSpec("causal", backbone.key, backbone.width, model),
        "encoder": ComponentSpec("hashing", encoder.key, encoder.width, {"width": 16}),
    }
    folder = tmp_path / "plug"
    save_pretrained(folder, ArtifactInfo("plug", to_mapping(method.config), **parts, task=info), method.tensors())
    return folder


@pytest.fixture
def shipped(plug: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The plug of the tiny model stands for the shipped one, with two people."""
    from personaplug.core.types import Behavior
    from personaplug.data.jsonl import write_lines
    from personaplug.pipeline import shipped

    folder = tmp_path / "package" / "tiny"
    folder.parent.mkdir()
    plug.rename(folder)
    people = [
        Behavior(u, str(i), "hello", f"{u} says {i} things to you", float(i)) for u in ("mia", "tom") for i in "1234"
    ]
    (folder / shipped.PEOPLE).write_bytes(b"".join(write_lines(people)))
    monkeypatch.setattr(shipped, "_HERE", folder.parent)
    monkeypatch.setattr(shipped, "DEFAULT", "tiny")
    return folder
