"""The routes of one user's history: add, page, edit, delete."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import Field

from personaplug.core.errors import ConflictError, DataError
from personaplug.core.times import utc_seconds
from personaplug.core.types import Behavior
from personaplug.data.jsonl import LineReader
from personaplug.data.ratings import RatingError, RatingScale
from personaplug.serve.openai.errors import ApiError
from personaplug.serve.openai.schemas import Body, Text
from personaplug.serve.security.access import Access, CurrentAccess, PathBehavior, PathUser
from personaplug.stores.base import NO_NUL, Store, texts

_SHOWN_ERRORS = 100
_LINE_END = re.compile(rb"\r\n|\n|\r")
_ITEM = {
    "type": "object",
    "required": ["output"],
    "properties": {
        "id": {"type": "string", "description": "By default made from the content: adding it again adds nothing."},
        "input": {"type": "string"},
        "output": {"type": "string"},
        "at": {"anyOf": [{"type": "number"}, {"type": "string"}], "description": "UTC seconds or ISO-8601."},
        "rating": {"type": "number", "minimum": 0, "maximum": 1},
        "fields": {"type": "object", "additionalProperties": {"type": "string"}},
    },
    "additionalProperties": False,
}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"oneOf": [_ITEM, {"type": "array", "items": _ITEM, "minItems": 1}]}},
            "application/x-ndjson": {"schema": {"type": "string"}},
        },
    }
}


router = APIRouter(prefix="/v1/users/{user}/history", tags=["histories"])


class EditBody(Body):
    """`PUT .../history/{id}`: all of a behaviour's content."""

    input: Text = ""
    output: Text
    at: float | str | None = None
    rating: float | None = Field(None, ge=0, le=1)
    fields: dict[str, str] | None = None


def shown_behavior(b: Behavior) -> dict[str, Any]:
    """A behaviour as clients see it."""
    return {
        "id": b.id,
        "object": "behavior",
        "input": b.input,
        "output": b.output,
        "at": b.at,
        "rating": b.rating,
        "fields": dict(b.fields),
    }


@router.get("")
async def page(
    user: PathUser,
    access: CurrentAccess,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: Annotated[str | None, Query(max_length=1024, description="The last id of the page before.")] = None,
    order: Literal["asc", "desc"] = "desc",
) -> dict[str, Any]:
    """A page of a user's behaviours, newest first unless asked otherwise."""
    access.authorize("read", {"user": user})
    history = await access.service.in_thread(access.service.store.history, access.caller.stored(user))
    behaviors = list(history if order == "asc" else reversed(history.behaviors))
    if after is not None:
        start = next((i for i, b in enumerate(behaviors) if b.id == after), None)
        if start is None:
            raise ApiError(404, f"after: no behaviour {after!r}; begin again without after", param="after")
        behaviors = behaviors[start + 1 :]
    data = [shown_behavior(b) for b in behaviors[:limit]]
    return {
        "object": "list",
        "data": data,
        "has_more": len(behaviors) > limit,
        "last_id": data[-1]["id"] if data else None,
        "total": len(history),
        "version": history.version,
    }


@router.get("/{behavior}")
async def get(user: PathUser, behavior: PathBehavior, access: CurrentAccess) -> dict[str, Any]:
    """One behaviour."""
    access.authorize("read", {"user": user})
    return shown_behavior(await access.service.in_thread(_one, access, user, behavior))


@router.put("/{behavior}")
async def edit(user: PathUser, behavior: PathBehavior, body: EditBody, access: CurrentAccess) -> dict[str, Any]:
    """Give a behaviour other content; no byte of the old one is left."""
    access.authorize("write", {"user": user})
    await access.service.in_thread(_one, access, user, behavior)
    try:
        at = None if body.at is None else utc_seconds(body.at)
    except ValueError as error:
        raise ApiError(400, f"at is {body.at!r}, {error}", param="at") from None
    stored = access.caller.stored(user)
    new = Behavior(stored, behavior, body.input, body.output, at, body.rating, body.fields or {})
    if await access.service.in_thread(access.service.store.replace, new):
        await access.service.on_erased(stored)
    return shown_behavior(new)


@router.delete("/{behavior}")
async def delete(user: PathUser, behavior: PathBehavior, access: CurrentAccess) -> dict[str, Any]:
    """Delete a behaviour; no byte of it is left."""
    access.authorize("write", {"user": user})
    stored = access.caller.stored(user)
    if not await access.service.in_thread(access.service.store.remove, stored, [behavior]):
        raise _missing(behavior)
    await access.service.on_erased(stored)
    return {"id": behavior, "object": "behavior.deleted", "deleted": True}


@router.post("", response_model=None, openapi_extra=_BODY)
async def add(
    user: PathUser,
    access: CurrentAccess,
    request: Request,
    check: Annotated[bool, Query(description="Only say what would be added and what is wrong.")] = False,
    rating_scale: Annotated[str, Query(description="The ratings' worst and best, LOW:HIGH, for example 1:5.")] = "0:1",
) -> Response:
    """Add behaviours: one JSON object, an array of them, or one a line (NDJSON).

    What is good is added, durable when this returns; what is not is named with its line. Only where nothing is good,
    the answer is an error. A rating beyond the scale is an error of them all: the others are likely of that other scale
    too. Sending the same again adds nothing.
    """
    access.authorize("write", {"user": user})
    body = await request.body()
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in ("application/json", "application/x-ndjson", "application/jsonl"):
        raise ApiError(
            400, f"Content-Type is {kind!r}: expected application/json or application/x-ndjson", param="Content-Type"
        )
    stored, reader = access.caller.stored(user), LineReader(user, RatingScale.parse(rating_scale))
    upload = await access.service.in_thread(_read, body, reader, access, stored, lines=kind != "application/json")
    await access.service.in_thread(_check_quota, access, upload, user)
    added = await access.service.in_thread(_keep, access.service.store, upload, stored, check=check)
    if added and not check:
        access.service.on_history_changed(stored)
    if upload.errors and not upload.good:
        raise ApiError(upload.status, upload.errors[0]["message"], param=f"line {upload.errors[0]['line']}")
    return JSONResponse(
        {
            "object": "history.added",
            "added": added,
            "known": len(upload.good) - added,
            "failed": len(upload.errors),
            "checked": check,
            "ids": [b.id for _, b in upload.good][:1000],
            "errors": upload.errors[:_SHOWN_ERRORS],
        }
    )


@dataclass(slots=True)
class _Upload:
    """What came in: behaviours and faults, each with the number of its line (or its place in the array, from 1)."""

    good: list[tuple[int, Behavior]] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)
    status: int = 400

    def fail(self, line: int, message: str) -> None:
        """Note a fault."""
        self.errors.append({"line": line, "message": message})


def _read(body: bytes, reader: LineReader, access: Access, stored: str, *, lines: bool) -> _Upload:
    upload = _Upload()
    keeps_nul = access.service.store.keeps_nul
    seen: dict[str, Behavior] = {}
    for number, line in _ndjson(body, upload) if lines else _json(body):
        try:
            behavior, _ = reader.read(line, f"line {number}")
        except RatingError as error:
            message = str(error).replace("--rating-scale 1:5", "?rating_scale=1:5")
            raise ApiError(400, f"{message}; nothing was added", param=f"line {number}", code="rating_scale") from None
        except DataError as error:
            upload.fail(number, str(error))
            continue
        if not keeps_nul and "\0" in texts(behavior):
            upload.fail(number, f"line {number}: {NO_NUL}")
            continue
        behavior = replace(behavior, user=stored)
        if seen.setdefault(behavior.id, behavior) is behavior:
            upload.good.append((number, behavior))
        elif seen[behavior.id] != behavior:
            upload.fail(number, f"line {number}: id {behavior.id!r} is on an earlier line with other content")
    if not upload.good and not upload.errors:
        raise ApiError(400, "there are no behaviours in the body; send one JSON object a line")
    return upload


def _ndjson(body: bytes, upload: _Upload) -> Iterator[tuple[int, str]]:
    for number, raw in enumerate(_LINE_END.split(body), 1):
        try:
            line = raw.decode("utf-8-sig").strip()
        except UnicodeDecodeError as error:
            upload.fail(number, f"line {number}: byte {error.start + 1} is not UTF-8; send UTF-8")
            continue
        if line:
            yield number, line


def _json(body: bytes) -> Iterator[tuple[int, str]]:
    try:
        data = json.loads(body)
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, numbers too long, nested too deeply
        raise ApiError(400, f"the body is not JSON: {error}") from None
    for number, item in enumerate(data if isinstance(data, list) else [data], 1):
        yield number, json.dumps(item)


def _check_quota(access: Access, upload: _Upload, user: str) -> None:
    """See `Access.check_quota`; what is stored already takes no more of it."""
    if access.caller.behaviors is None:
        return
    store, stored = access.service.store, access.caller.stored(user)
    known = {b.id for b in store.history(stored)} if _exists(store, stored) else set()
    access.check_quota(user, sum(b.id not in known for _, b in upload.good))


def _keep(store: Store, upload: _Upload, stored: str, *, check: bool) -> int:
    """Add what is good; what is stored with other content moves to the faults. Returns how many were new."""
    try:
        return _added(store, upload, stored, check=check)
    except ConflictError:
        _part(store, upload, stored)
        return _added(store, upload, stored, check=check)


def _added(store: Store, upload: _Upload, stored: str, *, check: bool) -> int:
    behaviors = [b for _, b in upload.good]
    if not check:
        return store.add(behaviors)
    known = _part(store, upload, stored)
    return sum(b.id not in known for _, b in upload.good)


def _part(store: Store, upload: _Upload, stored: str) -> dict[str, Behavior]:
    """Take out what is stored with other content; returns what is stored."""
    known = {b.id: b for b in store.history(stored)} if _exists(store, stored) else {}
    for number, b in upload.good:
        if known.get(b.id, b) != b:
            upload.fail(number, f"line {number}: id {b.id!r} is stored with other content; edit it, or use another id")
            upload.status = 409
    upload.good = [(number, b) for number, b in upload.good if known.get(b.id, b) == b]
    upload.errors.sort(key=lambda e: e["line"])
    return known


def _exists(store: Store, stored: str) -> bool:
    return any(info.user == stored for info in store.find_users(stored, limit=1))


def _one(access: Access, user: str, behavior: str) -> Behavior:
    history = access.service.store.history(access.caller.stored(user))
    one = next((b for b in history if b.id == behavior), None)
    if one is None:
        raise _missing(behavior)
    return one


def _missing(behavior: str) -> ApiError:
    return ApiError(404, f"this user has no behaviour {behavior!r}", code="behavior_not_found")
