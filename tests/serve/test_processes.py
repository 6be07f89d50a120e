"""The command itself, as a process: what it acknowledged outlives it, and it ends as it should."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import httpx
import pytest
from typer.testing import CliRunner

from personaplug.cli import app
from personaplug.pipeline.artifacts import ArtifactInfo, ComponentSpec, save_pretrained
from personaplug.tasks.base import TaskInfo

CHAT = {"model": "echo:none", "messages": [{"role": "user", "content": "hello there"}]}


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    """A method that answers with the request."""
    info = ArtifactInfo("recent", {}, ComponentSpec("echo", "echo"), task=TaskInfo("chat", "text"))
    save_pretrained(tmp_path / "recent", info, {})
    return tmp_path / "recent"


@contextmanager
def running(log: Path, *words: object) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """`personaplug serve` on a free port, and its address."""
    command = [sys.executable, "-m", "personaplug", "serve", *map(str, words), "--port", "0"]
    with log.open("wb") as said:
        process = subprocess.Popen(command, stderr=said)
    try:
        while not (found := re.search(r"http://[0-9.]+:\d+", log.read_text())):
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)
        yield process, found[0]
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_every_acknowledged_behaviour_is_there_after_a_kill(artifact, tmp_path, database, request) -> None:
    store = request.getfixturevalue("postgres_url") if database == "postgres" else tmp_path / "users.db"
    acknowledged = []
    with running(tmp_path / "log", artifact, "--store", store, "--rate", 0, "--user-rate", 0) as (process, url):

        def write(name: str) -> None:
            with httpx.Client(base_url=url) as web:
                for n in range(10_000):
                    try:
                        answer = web.post(f"/v1/users/{name}/history", json={"id": str(n), "output": f"text {n}"})
                    except httpx.TransportError:
                        return
                    assert answer.json()["added"] == 1
                    acknowledged.append((name, str(n)))

        threads = [Thread(target=write, args=(name,)) for name in ("ada", "bob", "cyd")]
        for thread in threads:
            thread.start()
        until = time.monotonic() + 20
        while len(acknowledged) < 60 and time.monotonic() < until:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        for thread in threads:
            thread.join()
    assert len(acknowledged) >= 60
    with running(tmp_path / "log", artifact, "--store", store) as (_, url), httpx.Client(base_url=url) as web:
        for user in ("ada", "bob", "cyd"):
            kept = {b["id"] for b in web.get(f"/v1/users/{user}/history", params={"limit": 1000}).json()["data"]}
            assert {id_ for name, id_ in acknowledged if name == user} <= kept


@pytest.mark.slow
def test_it_ends_quietly_when_told_to(artifact, tmp_path) -> None:
    log = tmp_path / "log"
    with running(log, artifact, "bm25", "--store", tmp_path / "users.db") as (process, url):
        with httpx.Client(base_url=url) as web:
            answer = web.post("/v1/chat/completions", json=CHAT).json()
            assert answer["choices"][0]["message"]["content"] == "hello there"
            assert {m["id"] for m in web.get("/v1/models").json()["data"]} == {"echo:recent", "echo:none", "echo:bm25"}
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) in (0, -signal.SIGTERM)
    said = log.read_text()
    assert "Traceback" not in said
    assert "hello there" not in said
    assert '"route": "/v1/chat/completions"' in said


def invoke(*words: object):
    return CliRunner().invoke(app, [str(w) for w in words])


def test_others_are_not_served_without_a_key(artifact, tmp_path) -> None:
    refused = invoke("serve", artifact, "--store", tmp_path / "users.db", "--host", "0.0.0.0")
    assert refused.exit_code == 2
    assert "personaplug keys create" in refused.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["none"], "two models would be called"),
        (["{artifact}", "plug"], "must be trained"),
        (["nowhere"], "no trained"),
        (["{artifact}", "--set", "method.name=none"], "only backbone.*"),
        (
            ["{artifact}", "--set", "backbone.name=openai", "--set", "backbone.model=m"],
            "OPENAI_API_KEY holds no key",
        ),
    ],
)
def test_what_cannot_be_served_is_named(artifact, tmp_path, monkeypatch, words, says) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    refused = invoke("serve", *(w.format(artifact=artifact) for w in words), "--store", tmp_path / "users.db")
    assert refused.exit_code == 2
    assert says in refused.stderr.replace("\n", " ")


def test_keys_are_made_listed_and_revoked(tmp_path) -> None:
    store = tmp_path / "users.db"
    made = invoke("keys", "create", "--user", "ada", "--tenant", "acme", "--name", "phone", "--store", store)
    key = made.stdout.strip()
    assert re.fullmatch(r"pp-[a-z0-9]{12}-[\w-]{43}", key)
    id_ = key.split("-")[1]
    listed = invoke("keys", "list", "--store", store).stdout
    assert id_ in listed
    assert "phone" in listed
    assert key not in listed
    assert invoke("keys", "revoke", id_, "--store", store).exit_code == 0
    assert "0 keys of 1 good" in invoke("keys", "list", "--store", store).stdout
    again = invoke("keys", "revoke", id_, "--store", store)
    assert again.exit_code == 2
    assert json.dumps(id_)[1:-1] in again.stderr
