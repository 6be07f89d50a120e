"""The route that loads people to try the server with: real ones where a data set was pulled, else made-up ones."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

from fastapi import APIRouter

from personaplug import data
from personaplug.core.errors import DataError, UnknownUserError
from personaplug.core.types import Behavior
from personaplug.data.jsonl import find_data, read_behaviors
from personaplug.serve.openai.errors import ApiError
from personaplug.serve.security.access import CurrentAccess
from personaplug.stores.base import Store

router = APIRouter(prefix="/v1", tags=["page"])

DATA_SET = "chitchat"
PEOPLE = Path(__file__).with_name("demo.json")

_USERS = 4
_BEHAVIORS = 80  # of each, the newest


@dataclass(frozen=True, slots=True)
class Demo:
    """People to try things with, and where they are from."""

    source: str
    behaviors: tuple[Behavior, ...]


@router.post("/demo", status_code=201)
async def load_demo(access: CurrentAccess) -> dict[str, Any]:
    """Add a few people with histories; doing it again adds nothing."""
    access.authorize("write", {})
    caller, service = access.caller, access.service
    if caller.users is not None:
        raise ApiError(403, "this key reaches certain users only; use one that reaches all", code="denied")

    def work() -> tuple[Demo, int]:
        demo = demo_people()
        theirs = [replace(b, user=caller.stored(b.user)) for b in demo.behaviors]
        known = {(u, id_) for u in {b.user for b in theirs} for id_ in _ids(service.store, u)}
        return demo, service.store.add(b for b in theirs if (b.user, b.id) not in known)  # some were corrected, maybe

    demo, added = await service.in_thread(work)
    names = sorted({b.user for b in demo.behaviors})
    for name in names:
        service.on_history_changed(caller.stored(name))
    return {"object": "demo", "source": demo.source, "users": names, "added": added}


def _ids(store: Store, user: str) -> set[str]:
    try:
        return {b.id for b in store.history(user)}
    except UnknownUserError:
        return set()


@cache
def demo_people() -> Demo:
    """The first four talkative people of the packaged chats where they were pulled, else four that we made up."""
    try:
        folder = data.path(DATA_SET)
    except DataError:
        return Demo("made up", tuple(_made_up()))
    people: list[Behavior] = []
    chosen = 0
    for _, behaviors in groupby(read_behaviors(find_data(folder)[0]), key=lambda b: b.user):
        theirs = list(behaviors)
        if len(theirs) >= _BEHAVIORS:
            people += theirs[-_BEHAVIORS:]
            chosen += 1
        if chosen == _USERS:  # the rest of the file is long, and not read
            break
    return Demo(DATA_SET, tuple(people))


def _made_up() -> list[Behavior]:
    """Everybody answers the same questions, so that what differs is who they are."""
    written = json.loads(PEOPLE.read_text(encoding="utf-8"))
    day, asked = 86_400.0, written["asked"]
    return [
        Behavior(user, f"demo-{n + 1}", question, text, written["from"] + day * (9 * n + start), None, {"topic": topic})
        for start, (user, texts) in enumerate(written["people"].items())
        for n, ((topic, question), text) in enumerate(zip(asked, texts, strict=True))
    ]
