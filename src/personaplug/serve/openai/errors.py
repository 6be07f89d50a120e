"""Errors over HTTP, as OpenAI's clients read them: a status and `{"error": {...}}`, one line each."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Route

from personaplug.core.errors import (
    BusyError,
    ConfigError,
    ConflictError,
    DataError,
    PersonaplugError,
    UnknownNameError,
    UnknownUserError,
)
from personaplug.core.names import TENANT_SEPARATOR

LOG = logging.getLogger("personaplug.serve")

_LONGEST = 400  # characters of a message
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    429: "rate_limit_error",
}
_KINDS: tuple[tuple[type[PersonaplugError], int, str | None], ...] = (
    (BusyError, 503, "busy"),
    (UnknownUserError, 404, "user_not_found"),
    (ConflictError, 409, "conflict"),
    (DataError, 400, None),
    (ConfigError, 400, None),
    (UnknownNameError, 400, None),
)
_PREFIX = re.compile(r"[a-z0-9-]*" + re.escape(repr(TENANT_SEPARATOR)[1:-1]))  # a tenant's, as a quoted name shows it


class ApiError(HTTPException):
    """A request is not served.

    Args:
        status: of the answer.
        message: one line that names the thing, the value and the way out.
        param: the field at fault.
        code: a word for programs.
        retry_after: seconds after which the same request may be served.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        headers = {} if retry_after is None else {"Retry-After": str(max(1, round(retry_after + 0.5)))}
        if status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        if status in (408, 413):  # the rest of the body is not read
            headers["Connection"] = "close"
        super().__init__(status, message, headers)
        self.param = param
        self.code = code

    def body(self) -> dict[str, Any]:
        """As OpenAI's clients read it."""
        kind = _TYPES.get(self.status_code, "invalid_request_error" if self.status_code < 500 else "server_error")
        message = " ".join(str(self.detail).split())
        if len(message) > _LONGEST:  # whatever was sent need not come back as a whole
            message = f"{message[: _LONGEST // 2]} … {message[-_LONGEST // 2 :]}"
        return {"error": {"message": message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        """As it is sent."""
        return JSONResponse(self.body(), self.status_code, self.headers)


def to_api_error(error: Exception) -> ApiError:
    """What a client is sent of an error; nothing of the store's place or of other users is in it."""
    if isinstance(error, ApiError):
        return error
    message = _PREFIX.sub("", str(error))
    for kind, status, code in _KINDS:
        # A message that begins so is about the store, or where a model runs, and not about the request.
        if isinstance(error, kind) and (status == 404 or not message.startswith(("store ", "backbone "))):
            line = "there is no such user; add some of their history first" if status == 404 else message
            return ApiError(status, line, code=code, retry_after=2 if status == 503 else None)
    if isinstance(error, PersonaplugError):
        LOG.error("%s", error)  # says what is wrong in one line, however many requests it meets
        return ApiError(503, "the server cannot do this now; its log says why", code="unavailable", retry_after=10)
    LOG.error("failed", exc_info=error)
    return ApiError(500, "the server failed at this; its log says why", code="internal_error")


def from_validation(error: RequestValidationError) -> ApiError:
    """The first fault of a body or a query, in one line that names the field."""
    faults = error.errors()
    place = [part for part in faults[0]["loc"] if not _is_union(part)]
    # Of a field of several types, the fault of the type that was meant: the one that lies deepest, or is not the type.
    same = [f for f in faults if [part for part in f["loc"] if not _is_union(part)][: len(place)] == place]
    first = max(same, key=lambda f: (len(f["loc"]), not f["type"].endswith("_type")))
    field = ".".join(str(part) for part in first["loc"][1:] if not _is_union(part))
    kind, value, context = first["type"], first.get("input"), first.get("ctx") or {}
    wanted = str(context.get("error") or first["msg"])
    wanted = wanted[0].lower() + wanted[1:]
    if kind == "json_invalid":
        return ApiError(400, f"the body is not JSON: {wanted} at character {first['loc'][-1]}")
    if kind in ("refused", "unknown"):
        named = context.get("param") or str(context["field"]).strip("'")
        param = ".".join(part for part in (field, named) if part)
        return ApiError(400, f"{field}: {wanted}" if field else wanted, param=param, code=f"{kind}_parameter")
    if kind == "missing":
        return ApiError(400, f"{field or 'the body'} is missing; it is needed", param=field or None)
    if isinstance(value, bytes) and not field:
        return ApiError(400, "the body is not read as JSON; send it with the header Content-Type: application/json")
    return ApiError(400, f"{field or 'the body'} is {_shown(value)}: {wanted}", param=field or None)


def install_handlers(app: FastAPI, routes: Sequence[BaseRoute]) -> None:
    """Have an app send everything that goes wrong in this one form; `routes` are its API's."""

    async def invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return from_validation(error).response()

    async def http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        if isinstance(error, ApiError):
            return error.response()
        if error.status_code in (404, 405):
            return _no_route(request, error, routes).response()
        return _plain(error).response()

    async def failed(_: Request, error: Exception) -> JSONResponse:
        return to_api_error(error).response()

    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(PersonaplugError, failed)
    app.add_exception_handler(Exception, failed)


def _no_route(request: Request, error: HTTPException, routes: Sequence[BaseRoute]) -> ApiError:
    """A wrong method, with those that the address takes; or a wrong address, with the base and what may be meant."""
    path = request.scope["path"]
    allowed = _methods(routes, path)
    if not allowed and error.status_code == 405:  # a file of the page
        allowed = {"GET"}
    if allowed:
        wrong = ApiError(405, f"this address does not take {request.method}, but {', '.join(sorted(allowed))}")
        wrong.headers = {"Allow": ", ".join(sorted(allowed | ({"HEAD"} if "GET" in allowed else set())))}
        return wrong
    # With the base doubled, left out or ended by a slash, as clients put addresses together.
    rest = re.sub(r"^(v1/)+", "", re.sub(r"/+", "/", path).strip("/"))
    meant = f"/v1/{rest}"
    end = f"did you mean {meant}?" if _methods(routes, meant, fixed=True) else "/openapi.json lists what there is"
    return ApiError(404, f"there is nothing at this address; the base of this API ends in /v1; {end}", code="not_found")


def _methods(routes: Sequence[BaseRoute], path: str, *, fixed: bool = False) -> set[str]:
    """The methods of the routes at an address; of addresses without names in them only, where `fixed`."""
    here = [r for r in routes if isinstance(r, Route) and r.path_regex.match(path)]
    return {m for r in here if not (fixed and r.param_convertors) for m in r.methods or ()} - {"HEAD"}


def _plain(error: HTTPException) -> ApiError:
    """The framework's other errors in our words."""
    says: Mapping[int, str] = {
        400: "the body cannot be read as JSON in UTF-8",
        413: "the body is too large; send less at a time",
    }
    wrong = ApiError(error.status_code, says.get(error.status_code, str(error.detail)))
    wrong.headers = {**(error.headers or {}), **(wrong.headers or {})}
    return wrong


def _is_union(part: object) -> bool:
    """Whether a part of an error's place names a type among several and no field."""
    return isinstance(part, str) and ("[" in part or part in {"str", "int", "float", "list", "constrained-str"})


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
