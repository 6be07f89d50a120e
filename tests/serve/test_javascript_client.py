"""OpenAI's own JavaScript client works as it is, over real HTTP."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from npm import npm_install
from personaplug.core.types import Behavior
from serving import Live

CLIENT = "openai@6.49.0"
SCRIPT = Path(__file__).parent / "javascript" / "client.mjs"


def installed(folder: Path) -> list[str]:
    """The command that runs the script beside the client; skips, saying why, where that cannot be had."""
    node = npm_install(CLIENT, folder)
    shutil.copy(SCRIPT, folder)
    return [node, str(folder / SCRIPT.name)]


@pytest.mark.slow
def test_the_javascript_client_gets_what_it_knows(listening_tiny_server: Live, tmp_path: Path) -> None:
    run = installed(tmp_path)
    listening_tiny_server.service.store.add([Behavior("ada", "1", "tell me more", "red please")])
    plug, bare = "tiny-causal:plug", "tiny-causal:none"
    command = [*run, f"{listening_tiny_server.url}/v1", plug, bare]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["chat"]["choices"][0]["message"]["content"] == said["streamed"]
    assert said["chat"]["personaplug"]["personalized"]
    assert said["last"]["usage"] == said["chat"]["usage"]
    assert len(said["several"]["choices"]) == 2
    assert said["several"]["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
    assert said["text"]["choices"][0]["text"]
    assert {plug, bare, "tiny-causal:recent", "hashing"} == set(said["models"])
    assert said["width"] == [16, 16]
    assert said["refused"]["missing"][:2] == ["NotFoundError", 404]
    assert said["refused"]["conflict"][:2] == ["PermissionDeniedError", 403]
    assert said["refused"]["wrong"] == ["BadRequestError", 400, "temperature"]
