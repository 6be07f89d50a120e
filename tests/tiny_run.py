"""A small training run for tests of the commands: made-up chats, a configuration, and the command itself."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from personaplug.cli import app

COLOURS = ("red", "blue", "green")


def write_data(folder: Path, users: int = 6) -> Path:
    lines = [
        {
            "user": f"u{u}",
            "id": f"u{u}-{i}",
            "at": i,
            "input": "what is your favourite colour" if i % 2 else "tell me more please",
            "output": f"{COLOURS[u % 3]} {COLOURS[u % 3]}",
            "fields": {"conversation": f"{u}-{i // 2}"},
        }
        for u in range(users)
        for i in range(12)
    ]
    folder.mkdir(parents=True)
    (folder / "behaviors.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder


def write_config(folder: Path, model: str | Path, steps: int = 4) -> Path:
    path = folder / "tiny.toml"
    path.write_text(
        f"""
        [task]
        name = "jsonl"
        path = "{write_data(folder / "data")}"
        max_tokens = 3

        [backbone]
        name = "causal"
        model = "{model}"
        dtype = "float32"
        device = "cpu"

        [encoder]
        name = "hashing"

        [method]
        name = "plug"
        persona_tokens = 2
        pooling = "softmax"

        [training]
        steps = {steps}
        batch_size = 4
        log_every = 1
        save_every = 2
        """
    )
    return path


def run(*words: object, code: int = 0) -> str:
    done = CliRunner().invoke(app, [str(w) for w in words])
    assert done.exit_code == code, done.output
    return " ".join(done.output.split())
