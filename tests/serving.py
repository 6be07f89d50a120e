"""What the tests of the server use: backbones that show all they were given, and a real server on a free port."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx

from personaplug.backbones.echo import EchoBackbone
from personaplug.core import registry
from personaplug.core.types import Message, Prompt
from personaplug.encoders.cache.embeddings import VectorCache
from personaplug.pipeline.personalizer import Personalizer
from personaplug.serve.app import create_app
from personaplug.serve.http_server import server
from personaplug.serve.runtime.engine import Threads
from personaplug.serve.runtime.service import Served, Service
from personaplug.serve.settings import Settings
from personaplug.serve.telemetry.tracing import Tracing
from personaplug.stores.database.keys import KeyTable
from personaplug.tasks.base import TaskInfo


class Parrot(EchoBackbone):
    """Answers with everything that it was given, so that whatever a method put there shows."""

    def _answer(self, prompt, sampling):
        said = " ".join(m.content for m in prompt.messages)
        return super()._answer(Prompt((*prompt.messages, Message("user", said))), sampling)


class Slow(EchoBackbone):
    """Says a word every 10 ms for as long as it is let; `began` is set by the first, `ended` when stopped or done."""

    def __init__(self) -> None:
        super().__init__()
        self.said = 0
        self.began, self.ended = Event(), Event()

    def stream(self, prompt, sampling):
        try:
            for _ in range(sampling.max_tokens):
                time.sleep(0.01)
                self.said += 1
                self.began.set()
                yield "word "
        finally:
            self.ended.set()


OPEN = Settings(open_locally=True, rate=0, user_rate=0)


@dataclass(slots=True)
class Live:
    """A server that runs."""

    url: str
    service: Service
    keys: KeyTable

    def client(self, key: str = "") -> httpx.Client:
        """A client with a key."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30)


def text_service(path: Path | str, backbone: Any, settings: Settings, methods=("none", "recent")) -> Service:
    """Text methods on a backbone that is no model."""
    store = registry.build("store", "sql", {"url": str(path)})
    engine = Threads(backbone, settings.rows, settings.waiting)
    task = TaskInfo("chat", "text", history_text="{input} {output}")
    encoder = VectorCache(registry.build("encoder", "hashing", {"width": 16}), store)
    models = {}
    for name in methods:
        method = registry.build("method", name, {}, backbone=backbone, vectors=encoder, task=task)
        models[f"echo:{name}"] = Served(f"echo:{name}", Personalizer(method, store, task), engine, "hashing")
    return Service(store, models, {"hashing": encoder}, settings)


@contextmanager
def served(
    service: Service, path: Path | str, report: Path | None = None, tracing: Tracing | None = None
) -> Iterator[Live]:
    """Serve it over real HTTP on a free port."""
    keys = KeyTable(str(path))
    running = server(create_app(service, keys, report, tracing), "127.0.0.1", 0)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        thread = Thread(target=running.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while not running.started:
                time.sleep(0.01)
            yield Live(f"http://127.0.0.1:{listening.getsockname()[1]}", service, keys)
        finally:
            running.should_exit = True
            thread.join()
