"""The routes of users: who there is, all that is held of one, erasing one, and what carries a persona."""

from __future__ import annotations

import re
import time
import uuid
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from fastapi.responses import JSONResponse
from pydantic import Field

from personaplug.core.errors import UnknownUserError
from personaplug.core.names import TENANT_SEPARATOR
from personaplug.core.types import Attribution, Behavior, Message
from personaplug.data.feedback import pair_behavior, rated_behavior
from personaplug.serve.openai.errors import ApiError
from personaplug.serve.openai.schemas import Body, MessageBody, Name, Text
from personaplug.serve.routes.export import archive
from personaplug.serve.routes.history import shown_behavior
from personaplug.serve.runtime.completion import shares
from personaplug.serve.security.access import Access, CurrentAccess, PathUser
from personaplug.stores.base import UserInfo

router = APIRouter(prefix="/v1/users", tags=["users"])


class UserBody(Body):
    """`POST /v1/users`."""

    id: Name


class ExplainBody(Body):
    """`POST .../explain`: a request, as messages or as one text."""

    model: Name
    messages: list[MessageBody] | None = Field(None, min_length=1, max_length=4096)
    input: Text | None = None
    limit: int = Field(20, ge=1, le=1000)

    def conversation(self) -> tuple[Message, ...] | None:
        """The request's messages; None where there is neither or both."""
        if (self.messages is None) == (self.input is None):
            return None
        if self.messages is not None:
            return tuple(m.message() for m in self.messages)
        return (Message("user", self.input or ""),)


class FeedbackBody(Body):
    """`POST .../feedback`: how an answer was liked, or what would have been better.

    Attributes:
        id: the answer's id, so that saying it twice counts once.
        input: what was asked.
        output: the answer.
        rating: how much it was liked, in [0, 1].
        preferred: what the user would rather have read.
    """

    id: Name | None = None
    input: Text
    output: Text
    rating: float | None = Field(None, ge=0, le=1)
    preferred: Text | None = Field(None, min_length=1)


@router.get("")
async def list_users(
    access: CurrentAccess,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: Annotated[str, Query(max_length=1024, description="The last name of the page before.")] = "",
) -> dict[str, Any]:
    """The users that the key reaches, by name."""
    access.authorize("read", {})
    infos = await access.service.in_thread(_page, access, limit + 1, after)
    data = [_shown(access, info) for info in infos[:limit]]
    return {
        "object": "list",
        "data": data,
        "has_more": len(infos) > limit,
        "last_id": data[-1]["id"] if data else None,
    }


def _page(access: Access, limit: int, after: str) -> list[UserInfo]:
    store, caller = access.service.store, access.caller
    if caller.users is not None:
        names = sorted(name for name in caller.users if name > after)
        infos = (_info(access, name) for name in names[: limit * 4])
        return [info for info in infos if info is not None][:limit]
    after = caller.stored(after) if after else ""
    if caller.tenant:
        return store.find_users(caller.prefix, after, limit)
    return store.find_users("", after, limit, without=TENANT_SEPARATOR)


def _info(access: Access, user: str) -> UserInfo | None:
    """A user at a glance, or None."""
    name = access.caller.stored(user)
    infos = access.service.store.find_users(name, limit=1)  # by name, so the shortest one that begins so is the first
    return infos[0] if infos and infos[0].user == name else None


def _shown(access: Access, info: UserInfo) -> dict[str, Any]:
    return {
        "id": info.user.removeprefix(access.caller.prefix),
        "object": "user",
        "behaviors": info.behaviors,
        "version": info.version,
        "first": info.first,
        "last": info.last,
    }


@router.post("", status_code=201, response_model=None)
async def create_user(body: UserBody, access: CurrentAccess) -> Response:
    """Make sure of a user; 200 where they are there already."""
    user = access.authorize("write", {"id": body.id})
    assert user is not None
    new = await access.service.in_thread(access.service.store.create, access.caller.stored(user))
    info = await access.service.in_thread(_info, access, user)
    assert info is not None
    return JSONResponse(_shown(access, info), 201 if new else 200)


@router.get("/{user}")
async def get_user(user: PathUser, access: CurrentAccess) -> dict[str, Any]:
    """A user at a glance, and which models have their persona ready."""
    access.authorize("read", {"user": user})
    info = await access.service.in_thread(_info, access, user)
    if info is None:
        raise UnknownUserError(user)
    ready = await access.service.in_thread(_ready, access, info)
    return {**_shown(access, info), "prepared": ready}


def _ready(access: Access, info: UserInfo) -> dict[str, bool]:
    return {model.id: model.personalizer.is_prepared(info.user) for model in access.service.models.values()}


@router.delete("/{user}")
async def erase_user(user: PathUser, access: CurrentAccess) -> dict[str, Any]:
    """Erase a user: no byte of their text, vectors or personas is left in the store's files, nor in memory here.

    Returns the receipt.
    """
    access.authorize("admin", {"user": user})
    stored, service = access.caller.stored(user), access.service
    receipt = await service.in_thread(service.store.forget, stored)
    prompts = await service.on_erased(stored)
    names = {"user": user, "id": user}
    return {"object": "user.erased", **asdict(receipt), "prompt_tokens": prompts, **names, "deleted": True}


@router.get("/{user}/export", response_model=None, responses={200: {"content": {"application/zip": {}}}})
async def export_user(user: PathUser, access: CurrentAccess) -> Response:
    """Everything held of a user, as one zip."""
    access.authorize("read", {"user": user})
    info = await access.service.in_thread(_info, access, user)
    if info is None:
        raise UnknownUserError(user)
    data = await access.service.in_thread(archive, access.service.store, info.user, user)
    name = re.sub(r"[^A-Za-z0-9._-]", "_", user)[:64]
    return Response(
        data, media_type="application/zip", headers={"Content-Disposition": f'attachment; filename="{name}.zip"'}
    )


@router.post("/{user}/explain")
async def explain(user: PathUser, body: ExplainBody, access: CurrentAccess) -> dict[str, Any]:
    """Which behaviours would carry the persona for a request, heaviest first, with their texts."""
    access.authorize("read", {"user": user})
    model, messages = access.service.model(body.model), body.conversation()
    if messages is None:
        raise ApiError(400, "messages or input is needed, and only one of them", param="messages")
    stored = access.caller.stored(user)

    def work() -> tuple[int, list[Attribution]]:
        profile = model.personalizer.profile(stored)
        weights = model.explain(model.request(stored, messages), profile, len(profile.history))
        return profile.history.version, weights

    version, weights = await access.service.in_thread(work)
    some = weights[: body.limit]
    data = [{**shown_behavior(w.behavior), **share} for w, share in zip(some, shares(some), strict=True)]
    return {"object": "list", "model": model.id, "version": version, "total": len(weights), "data": data}


@router.post("/{user}/feedback", status_code=201)
async def feedback(user: PathUser, body: FeedbackBody, access: CurrentAccess) -> dict[str, Any]:
    """Keep how an answer was liked, or what would have been better, as a behaviour of the user."""
    access.authorize("write", {"user": user})
    if (body.rating is None) == (body.preferred is None):
        raise ApiError(400, "rating or preferred is needed, and only one of them", param="rating")
    behavior = _judged(access.caller.stored(user), body)
    await access.service.in_thread(access.check_quota, user, 1)
    added = await access.service.in_thread(access.service.store.add, [behavior])
    access.service.on_history_changed(behavior.user)
    return {"object": "behavior.added", "added": added, "behavior": shown_behavior(behavior)}


def _judged(user: str, body: FeedbackBody) -> Behavior:
    at, id_ = round(time.time(), 3), body.id or uuid.uuid4().hex
    if body.preferred is not None:
        return pair_behavior(user, f"feedback-preferred-{id_}", body.input, body.preferred, body.output, at)
    assert body.rating is not None
    return rated_behavior(user, f"feedback-rating-{id_}", body.input, body.output, body.rating, at)
