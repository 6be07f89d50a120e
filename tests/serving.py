"""What the tests of the server use: backbones that show all they were given, and the server, called or listening."""

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
from anyio.from_thread import BlockingPortal, start_blocking_portal
from fastapi import FastAPI

from personaplug.backbones.echo import EchoBackbone
from personaplug.core import registry
from personaplug.core.types import Message, Prompt
from personaplug.encoders.cache.embeddings import VectorCache
from personaplug.pipeline.personalizer import Personalizer
from personaplug.serve.app import create_app
from personaplug.serve.http_server import server
from personaplug.serve.runtime.engine import ThreadPoolEngine
from personaplug.serve.runtime.loader import ModelLoader
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


class _Calls(httpx.BaseTransport):
    """Calls an app in the event loop of another thread."""

    def __init__(self, app: FastAPI, portal: BlockingPortal) -> None:
        self._asgi = httpx.ASGITransport(app, raise_app_exceptions=False)
        self._portal = portal

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        return self._portal.call(self._whole, request)

    async def _whole(self, request: httpx.Request) -> httpx.Response:
        response = await self._asgi.handle_async_request(request)
        body = httpx.ByteStream(await response.aread())
        return httpx.Response(response.status_code, headers=response.headers, stream=body)


OPEN = Settings(open_locally=True, rate=0, user_rate=0)


@dataclass(slots=True)
class Live:
    """A server that runs; without a transport of its own it listens at `url`."""

    url: str
    service: Service
    keys: KeyTable
    transport: httpx.BaseTransport | None = None

    def client(self, key: str = "") -> httpx.Client:
        """A client with a key."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30, transport=self.transport)


def text_service(path: Path | str, backbone: Any, settings: Settings, methods=("none", "recent")) -> Service:
    """Text methods on a backbone that is no model."""
    store = registry.build("store", "sql", {"url": str(path)})
    engine = ThreadPoolEngine(backbone, settings.max_running, settings.max_waiting)
    task = TaskInfo("chat", "text", history_text="{input} {output}")
    encoder = VectorCache(registry.build("encoder", "hashing", {"width": 16}), store)
    models = {}
    for name in methods:
        method = registry.build("method", name, {}, backbone=backbone, vectors=encoder, task=task)
        models[f"echo:{name}"] = Served(f"echo:{name}", Personalizer(method, store, task), engine, "hashing")
    return Service(store, models, {"hashing": encoder}, settings)


def tiny_service(tiny_causal: Path, folder: Path) -> Service:
    """A plug of a tiny random model with the methods `none` and `recent` beside it."""
    from personaplug.pipeline.build import RunConfig, build_components

    run = RunConfig.parse(
        backbone={"name": "causal", "model": str(tiny_causal), "dtype": "float32", "device": "cpu"},
        encoder={"name": "hashing", "width": 16},
        method={"name": "plug"},
    )
    info = TaskInfo("chat", "text", history_text="{input} {output}")
    build_components(run, info, None).save(folder / "plug", {}, {})
    loader = ModelLoader(registry.build("store", "sql", {"url": str(folder / "users.db")}), OPEN)
    loader.add_untrained(loader.add(str(folder / "plug")), "recent")
    return loader.service()


@contextmanager
def served(
    service: Service, path: Path | str, report: Path | None = None, tracing: Tracing | None = None
) -> Iterator[Live]:
    """Serve it in this process: clients call the app, no socket is opened. A response comes when all of it is there."""
    keys = KeyTable(str(path))
    app = create_app(service, keys, report, tracing)
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(app.router.lifespan_context(app)):
        yield Live("http://127.0.0.1:8000", service, keys, _Calls(app, portal))


@contextmanager
def listening(service: Service, path: Path | str, report: Path | None = None) -> Iterator[Live]:
    """Serve it over real HTTP on a free port: for clients that leave, stream, or are no Python."""
    keys = KeyTable(str(path))
    running = server(create_app(service, keys, report), "127.0.0.1", 0)
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        thread = Thread(target=running.run, kwargs={"sockets": [bound]})
        thread.start()
        try:
            while not running.started:
                time.sleep(0.01)
            yield Live(f"http://127.0.0.1:{bound.getsockname()[1]}", service, keys)
        finally:
            running.should_exit = True
            thread.join()
