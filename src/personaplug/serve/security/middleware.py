"""Stands before every route: who asks, how often, how much; notes each request when it is done."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders, State
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from personaplug.core.errors import PersonaplugError
from personaplug.serve.openai.errors import Refusal, refusal_of
from personaplug.serve.security.api_keys import KeyRing
from personaplug.serve.security.authorization import Caller
from personaplug.serve.security.rate_limits import Buckets
from personaplug.serve.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from personaplug.serve.runtime.service import Service
    from personaplug.serve.telemetry.tracing import Tracing

LOG = logging.getLogger("personaplug.serve")

# The page needs nothing but its own files; nothing may frame it or be loaded into it.
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


class Door:
    """Lets requests in, as ASGI middleware.

    What begins with /v1/ or is /metrics needs a key (see `KeyRing.caller`); the page, its files, /healthz, /readyz and
    /openapi.json are open to everybody. Addresses are matched as they were sent and unquoted by the routes, so that
    a user's name may hold a slash.
    """

    def __init__(
        self,
        app: ASGIApp,
        service: Service,
        ring: KeyRing,
        metrics: Metrics,
        buckets: Buckets,
        tracing: Tracing | None = None,
    ) -> None:
        self.app = app
        self.service = service
        self.ring = ring
        self.metrics = metrics
        self.buckets = buckets
        self.tracing = tracing
        self.settings = service.settings
        self._open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status, id_ = time.perf_counter(), 500, uuid.uuid4().hex
        if "raw_path" in scope:
            scope["path"] = scope["raw_path"].partition(b"?")[0].decode("latin-1")
        state = scope.setdefault("state", {})
        state.update(arrived=start, stages={}, caller=Caller(""))

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers["X-Request-Id"] = id_
                headers.setdefault("Cache-Control", "no-store" if _guarded(scope["path"]) else "no-cache")
            await send(message)

        self._open += 1
        self.metrics.open.inc()
        try:
            try:
                await self._let_in(scope)
            except (Refusal, PersonaplugError) as error:
                await refusal_of(error).response()(scope, receive, answer)
            else:
                await self.app(scope, self._measured(scope, receive), answer)
        finally:
            self._open -= 1
            self.metrics.open.dec()
            self._note(scope, id_, status, time.perf_counter() - start)

    async def _let_in(self, scope: Scope) -> None:
        """Find out who asks.

        Raises:
            Refusal: 401, 403, 429 or 503.
        """
        if self._open > self.settings.in_flight:
            raise Refusal(503, "too many requests at once; try again in a few seconds", code="busy", retry_after=2)
        if not _guarded(scope["path"]):
            return
        headers = Headers(scope=scope)
        scheme, _, key = headers.get("authorization", "").partition(" ")
        key = key.strip() if scheme.lower() == "bearer" else ""
        open_locally = self.settings.open_locally
        caller = None
        # A client without keys of its own sends any word as its key: that is none.
        for sent in dict.fromkeys((key if key.startswith("pp-") else "", "") if open_locally else (key,)):
            find = self.ring.caller
            if self.ring.fresh(sent):
                caller = find(sent, open_locally=open_locally)
            else:
                caller = await self.service.off(find, sent, open_locally=open_locally)
            if caller is not None:
                break
        if caller is None:
            raise Refusal(
                401,
                "no valid key; send one as `Authorization: Bearer KEY`, made by `personaplug keys create`",
                code="invalid_api_key",
            )
        if not caller.key:
            _refuse_strangers(headers)
        rate = self.settings.rate if caller.rate is None else caller.rate
        wait = self.buckets.take(f"key {caller.key}", rate)
        if wait:
            raise Refusal(429, "too many requests with this key; wait a little", code="rate_limited", retry_after=wait)
        scope["state"]["caller"] = caller
        scope["state"]["stages"] = {}

    def _measured(self, scope: Scope, receive: Receive) -> Receive:
        """A body may be so large, and must have arrived in time; what comes after it may take as long as it likes."""
        settings = self.settings
        most = settings.history_bytes if scope["path"].endswith("/history") else settings.body_bytes
        own = scope["state"]["caller"].body_bytes
        most = most if own is None else min(most, own)
        until, size, whole = time.monotonic() + settings.body_seconds, 0, False

        async def get() -> Message:
            nonlocal size, whole
            if whole:
                return await receive()
            try:
                async with asyncio.timeout(until - time.monotonic()):
                    message = await receive()
            except TimeoutError:
                said = f"the body did not arrive within {settings.body_seconds:g} s; send it faster"
                raise Refusal(408, said) from None
            size += len(message.get("body", b""))
            if size > most:
                raise Refusal(413, f"the body is too large: at most {most:,} bytes; send less at a time")
            whole = not message.get("more_body", False)
            return message

        return get

    def _note(self, scope: Scope, id_: str, status: int, seconds: float) -> None:
        state = State(scope["state"])
        route = getattr(scope.get("route"), "path", None) or "other"
        self.metrics.observe(scope["method"], route, status, seconds, state.stages)
        if self.tracing is not None:
            self.tracing.note(scope["method"], route, status, seconds, state.stages, Headers(scope=scope))
        entry = {
            "request": id_,
            "method": scope["method"],
            "route": route,
            "status": status,
            "seconds": round(seconds, 4),
            "key": state.caller.key or None,
            **{name: round(spent, 4) for name, spent in state.stages.items()},
        }
        LOG.info("request", extra={"entry": {k: v for k, v in entry.items() if v is not None}})


def _guarded(path: str) -> bool:
    return path.startswith("/v1/") or path in ("/v1", "/metrics")


def _refuse_strangers(headers: Headers) -> None:
    """Where no key is needed, other sites' pages in a browser on this machine must not get in.

    Neither through a name of theirs that leads to this address (DNS rebinding), nor by a form of theirs.

    Raises:
        Refusal: 403.
    """
    host = urlsplit(f"//{headers.get('host', '')}").hostname
    if host not in _LOOPBACK:
        raise Refusal(403, "without keys, only localhost is served; make one with `personaplug keys create`")
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != headers.get("host"):
        raise Refusal(403, "without keys, other sites' pages are not served; make one with `personaplug keys create`")
