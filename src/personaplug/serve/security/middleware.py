"""Three middlewares before every route: one records a request, one limits how much at once, one checks who asks.

TelemetryMiddleware  ──►  LimitMiddleware  ──►  AuthMiddleware  ──►  routes
id, headers, metrics,     requests at once,     API key, rate
spans, log                size of a body
"""

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
from personaplug.serve.openai.errors import ApiError, to_api_error
from personaplug.serve.security.access import Caller, KeyRing, RateLimiter
from personaplug.serve.settings import Settings
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


class TelemetryMiddleware:
    """Gives each request an id, each response its security headers, and notes both when all is sent.

    It comes first, and so settles the request line for all others: an address stands as it was sent, to be unquoted by
    the routes (a user's name may hold a slash), and HEAD is a GET whose body is left out.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, tracing: Tracing | None = None) -> None:
        self.app = app
        self.metrics = metrics
        self.tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status, id_, method = time.perf_counter(), 500, uuid.uuid4().hex, scope["method"]
        scope = {**scope, "method": "GET" if method == "HEAD" else method}
        if "raw_path" in scope:
            scope["path"] = scope["raw_path"].partition(b"?")[0].decode("latin-1")
        scope["state"] = {**scope.get("state", {}), "arrived": start, "stages": {}, "caller": Caller("")}

        async def respond(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers["X-Request-Id"] = id_
                headers.setdefault("Cache-Control", "no-store" if _needs_key(scope["path"]) else "no-cache")
            elif method == "HEAD" and message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        self.metrics.open.inc()
        try:
            await self.app(scope, receive, respond)
        finally:
            self.metrics.open.dec()
            self._record(scope, method, id_, status, time.perf_counter() - start)

    def _record(self, scope: Scope, method: str, id_: str, status: int, seconds: float) -> None:
        state, metrics = State(scope["state"]), self.metrics
        route = getattr(scope.get("route"), "path", None) or "other"
        metrics.requests.labels(method, route, str(status)).inc()
        metrics.seconds.labels(route).observe(seconds)
        for stage, spent in state.stages.items():
            metrics.stages.labels(stage).observe(spent)
        if self.tracing is not None:
            self.tracing.record(method, route, status, seconds, state.stages, Headers(scope=scope))
        entry = {
            "request": id_,
            "method": method,
            "route": route,
            "status": status,
            "seconds": round(seconds, 4),
            "key": state.caller.key or None,
            **{name: round(spent, 4) for name, spent in state.stages.items()},
        }
        LOG.info("request", extra={"entry": {k: v for k, v in entry.items() if v is not None}})


class LimitMiddleware:
    """Bounds the requests at once, and the size of a body and the time in which it arrives."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.settings = settings
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if self._in_flight >= self.settings.in_flight:
            busy = ApiError(503, "too many requests at once; try again in a few seconds", code="busy", retry_after=2)
            await busy.response()(scope, receive, send)
            return
        self._in_flight += 1
        try:
            await self.app(scope, self._limited(scope, receive), send)
        finally:
            self._in_flight -= 1

    def _limited(self, scope: Scope, receive: Receive) -> Receive:
        """Receives a body within its limits; what follows it (a disconnect) may take as long as it likes."""
        settings = self.settings
        until, size, whole = time.monotonic() + settings.body_seconds, 0, False

        async def limited() -> Message:
            nonlocal size, whole
            if whole:
                return await receive()
            try:
                async with asyncio.timeout(until - time.monotonic()):
                    message = await receive()
            except TimeoutError:
                late = f"the body did not arrive within {settings.body_seconds:g} s; send it faster"
                raise ApiError(408, late) from None
            size += len(message.get("body", b""))
            most = settings.history_bytes if scope["path"].endswith("/history") else settings.body_bytes
            own = scope["state"]["caller"].body_bytes  # of the key, which is known by now
            most = most if own is None else min(most, own)
            if size > most:
                raise ApiError(413, f"the body is too large: at most {most:,} bytes; send less at a time")
            whole = not message.get("more_body", False)
            return message

        return limited


class AuthMiddleware:
    """Checks the API key of a request, and how often that key asks.

    What begins with /v1/ or is /metrics needs a key (see `KeyRing.caller`); the page, its files, /healthz, /readyz and
    /openapi.json are open to everybody.
    """

    def __init__(self, app: ASGIApp, service: Service, ring: KeyRing, limiter: RateLimiter) -> None:
        self.app = app
        self.service = service
        self.ring = ring
        self.limiter = limiter
        self.settings = service.settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and _needs_key(scope["path"]):
            try:
                scope["state"]["caller"] = await self._authenticate(Headers(scope=scope))
            except (ApiError, PersonaplugError) as error:
                await to_api_error(error).response()(scope, receive, send)
                return
        await self.app(scope, receive, send)

    async def _authenticate(self, headers: Headers) -> Caller:
        """The caller whom a request's key stands for.

        Raises:
            ApiError: 401, 403 or 429.
        """
        scheme, _, key = headers.get("authorization", "").partition(" ")
        key = key.strip() if scheme.lower() == "bearer" else ""
        open_locally, caller = self.settings.open_locally, None
        # A client without keys of its own sends any word as its key: that is none.
        for candidate in dict.fromkeys((key if key.startswith("pp-") else "", "") if open_locally else (key,)):
            if self.ring.fresh(candidate):
                caller = self.ring.caller(candidate, open_locally=open_locally)
            else:
                caller = await self.service.in_thread(self.ring.caller, candidate, open_locally=open_locally)
            if caller is not None:
                break
        if caller is None:
            raise ApiError(
                401,
                "no valid key; send one as `Authorization: Bearer KEY`, made by `personaplug keys create`",
                code="invalid_api_key",
            )
        if not caller.key:
            _refuse_other_sites(headers)
        rate = self.settings.rate if caller.rate is None else caller.rate
        wait = self.limiter.take(f"key {caller.key}", rate)
        if wait:
            raise ApiError(429, "too many requests with this key; wait a little", code="rate_limited", retry_after=wait)
        return caller


def _needs_key(path: str) -> bool:
    return path.startswith("/v1/") or path in ("/v1", "/metrics")


def _refuse_other_sites(headers: Headers) -> None:
    """Where no key is needed, other sites' pages in a browser on this machine must not get in.

    Neither through a name of theirs that leads to this address (DNS rebinding), nor by a form of theirs.

    Raises:
        ApiError: 403.
    """
    host = urlsplit(f"//{headers.get('host', '')}").hostname
    if host not in _LOOPBACK:
        raise ApiError(403, "without keys, only localhost is served; make one with `personaplug keys create`")
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != headers.get("host"):
        raise ApiError(403, "without keys, other sites' pages are not served; make one with `personaplug keys create`")
