"""The server as an ASGI app: the middlewares, the routes behind them, and the page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from personaplug.core.errors import PersonaplugError
from personaplug.core.version import __version__
from personaplug.models.allocator import trim_heap
from personaplug.serve.openai.errors import ApiError, install_handlers
from personaplug.serve.routes import chat, demo, history, models, report, users
from personaplug.serve.routes import map as projection
from personaplug.serve.runtime.service import Service
from personaplug.serve.security.access import CurrentAccess, KeyRing, RateLimiter
from personaplug.serve.security.middleware import AuthMiddleware, LimitMiddleware, TelemetryMiddleware
from personaplug.serve.telemetry.metrics import Metrics
from personaplug.serve.telemetry.tracing import Tracing
from personaplug.stores.database.keys import KeyTable

PAGE = Path(__file__).parent / "page"

state = APIRouter(tags=["state"])


def create_app(
    service: Service, keys: KeyTable, report_file: Path | None = None, tracing: Tracing | None = None
) -> FastAPI:
    """The app that serves a service; closing the app closes all of them.

    Args:
        service: the models and the users.
        keys: the API keys.
        report_file: the bench report that the page shows.
        tracing: exports the spans of each request for OpenTelemetry.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        tidying = asyncio.create_task(_tidy())
        yield
        tidying.cancel()
        # In a thread: answers under way end there, and their last words need the loop.
        await asyncio.get_running_loop().run_in_executor(None, service.close)
        keys.close()
        if tracing is not None:
            tracing.close()

    app = FastAPI(
        title="personaplug",
        version=__version__,
        summary="One learned persona per user, in front of any frozen language model.",
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
    )
    metrics, limiter = Metrics(service), RateLimiter(service.settings.burst)
    app.state.service, app.state.limiter, app.state.metrics = service, limiter, metrics
    app.state.report = report_file
    # Each is put around those before it: a request passes the last one first.
    app.add_middleware(AuthMiddleware, service=service, ring=KeyRing(keys), limiter=limiter)
    app.add_middleware(LimitMiddleware, settings=service.settings)
    app.add_middleware(TelemetryMiddleware, metrics=metrics, tracing=tracing)
    routers = [m.router for m in (chat, models, users, history, projection, demo, report)] + [state]
    for router in routers:
        app.include_router(router)
    install_handlers(app, [*app.routes, *(route for router in routers for route in router.routes)])
    app.mount("/", _Page(directory=PAGE, html=True), name="page")
    return app


class _Page(StaticFiles):
    """The page's files; a wrong method is a 405, a file that is not there a 404."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """The file, or an error."""
        if scope["method"] not in ("GET", "HEAD"):
            exists = (await asyncio.to_thread(self.lookup_path, path))[1] is not None
            raise HTTPException(405 if exists else 404)
        return await super().get_response(path, scope)


async def _tidy() -> None:
    """Keep resident memory at what is used."""
    while True:
        await asyncio.sleep(_TIDIED)
        await asyncio.to_thread(trim_heap)


@state.get("/healthz")
async def healthz() -> dict[str, str]:
    """Whether the process answers."""
    return {"status": "ok"}


@state.get("/readyz", response_model=None)
async def readyz(request: Request) -> Response:
    """Whether it can serve: models run, the store is there."""
    service: Service = request.app.state.service
    dead = [m.id for m in service.models.values() if not m.engine.alive]
    try:
        await service.in_thread(service.store.metadata, "personaplug.ready")
        store = "ok"
    except PersonaplugError:
        store = "failed"
    good = store == "ok" and not dead and not service.closing
    body: dict[str, Any] = {"status": "ready" if good else "not ready", "store": store, "models": len(service.models)}
    return JSONResponse(body, 200 if good else 503)


@state.get("/metrics", response_model=None)
async def metrics(access: CurrentAccess) -> Response:
    """For Prometheus; of all tenants together, and so for the store's own keys with the scope `admin`."""
    access.authorize("admin", {})
    if access.caller.tenant or access.caller.users is not None:
        raise ApiError(403, "measurements are of all tenants; use a key of none", code="denied")
    text = await access.service.in_thread(access.request.app.state.metrics.text)
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


_TIDIED = 15.0  # seconds
