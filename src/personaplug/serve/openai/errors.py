"""What goes wrong, as OpenAI's clients understand it: a status and `{"error": {...}}`, one line each."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from personaplug.core.errors import (
    BusyError,
    ConfigError,
    ConflictError,
    DataError,
    PersonaplugError,
    UnknownNameError,
    UnknownUserError,
)
from personaplug.serve.security.authorization import SEPARATOR

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
_PREFIX = re.compile(r"[a-z0-9-]*" + re.escape(repr(SEPARATOR)[1:-1]))  # a tenant's, as a quoted name shows it


class Refusal(HTTPException):
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


def refusal_of(error: Exception) -> Refusal:
    """The refusal that tells of an error; nothing of the store's place or of other users is in it."""
    if isinstance(error, Refusal):
        return error
    message = _PREFIX.sub("", str(error))
    for kind, status, code in _KINDS:
        # What begins so is about the store, or where a model runs, and not about the request.
        if isinstance(error, kind) and (status == 404 or not message.startswith(("store ", "backbone "))):
            said = "there is no such user; add some of their history first" if status == 404 else message
            return Refusal(status, said, code=code, retry_after=2 if status == 503 else None)
    if isinstance(error, PersonaplugError):
        LOG.error("%s", error)  # says what is wrong in one line, however many requests it meets
        return Refusal(503, "the server cannot do this now; its log says why", code="unavailable", retry_after=10)
    LOG.error("failed", exc_info=error)
    return Refusal(500, "the server failed at this; its log says why", code="internal_error")


def told(error: RequestValidationError) -> Refusal:
    """The first fault of a body or a query, in one line."""
    faults = error.errors()
    place = [part for part in faults[0]["loc"] if not _is_union(part)]
    # Of a field that may be several things, the fault that lies deepest: in what was meant.
    first = max((f for f in faults if list(f["loc"][: len(place)]) == place), key=lambda f: len(f["loc"]))
    field = ".".join(str(part) for part in first["loc"][1:] if not _is_union(part))
    kind, value, context = first["type"], first.get("input"), first.get("ctx") or {}
    wanted = str(context.get("error") or first["msg"])
    wanted = wanted[0].lower() + wanted[1:]
    if kind == "json_invalid":
        return Refusal(400, f"the body is not JSON: {wanted} at character {first['loc'][-1]}")
    if kind in ("refused", "unknown"):
        param = ".".join(part for part in (field, str(context["field"]).strip("'")) if part)
        return Refusal(400, f"{field}: {wanted}" if field else wanted, param=param, code=f"{kind}_parameter")
    if kind == "missing":
        return Refusal(400, f"{field or 'the body'} is missing; it is needed", param=field or None)
    if isinstance(value, bytes) and not field:
        return Refusal(400, "the body is not read as JSON; send it with the header Content-Type: application/json")
    return Refusal(400, f"{field or 'the body'} is {_shown(value)}: {wanted}", param=field or None)


def install(app: FastAPI) -> None:
    """Have an app tell of everything that goes wrong in this one form."""

    async def invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return told(error).response()

    async def http(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        if isinstance(error, Refusal):
            return error.response()
        return _plain(error).response()

    async def failed(_: Request, error: Exception) -> JSONResponse:
        return refusal_of(error).response()

    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(PersonaplugError, failed)
    app.add_exception_handler(Exception, failed)


def _plain(error: HTTPException) -> Refusal:
    """The framework's own refusals in our words."""
    says: Mapping[int, str] = {
        400: "the body cannot be read as JSON in UTF-8",
        404: "there is nothing at this address; /openapi.json lists what there is",
        405: "this address takes another method; /openapi.json lists them",
        413: "the body is too large; send less at a time",
    }
    refusal = Refusal(error.status_code, says.get(error.status_code, str(error.detail)))
    refusal.headers = {**(error.headers or {}), **(refusal.headers or {})}
    return refusal


def _is_union(part: object) -> bool:
    """Whether a part of an error's place names a type among several and no field."""
    return isinstance(part, str) and ("[" in part or part in {"str", "int", "float", "list", "constrained-str"})


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
