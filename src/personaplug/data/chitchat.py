"""Chit-Chat Challenge: two-person chats; a behaviour is what someone wrote next, given what the other just wrote."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, NamedTuple

from personaplug.core.types import Behavior
from personaplug.data.names import hide_addresses, pseudonym

LONGEST = 400
"""Characters of a message; longer ones are pasted more often than written."""
FEWEST = 40
"""Replies that a user must have to be taken."""
MOST_ALIKE = 0.5
"""Share of a user's replies that may be the same one; with more the user is a program or not trying."""


class _Turn(NamedTuple):
    sender: str
    text: str
    at: float


def read(file: Path) -> Iterator[Behavior]:
    """Behaviours by user, oldest first; users with few replies or mostly the same one (bots) are left out."""
    conversations: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    by_user: defaultdict[str, list[Behavior]] = defaultdict(list)
    for name, conversation in conversations.items():
        for behavior in _replies(name, conversation["messages"]):
            by_user[behavior.user].append(behavior)
    for user in sorted(by_user):
        if _is_person(by_user[user]):
            yield from sorted(by_user[user], key=lambda b: (b.at or 0.0, b.id))


def _replies(conversation: str, messages: list[list[dict[str, str]]]) -> Iterator[Behavior]:
    # Where one sender talks alone there is a single turn, so nothing that is replied to.
    for i, (heard, said) in enumerate(pairwise(_turns(messages)), start=1):
        if max(len(heard.text), len(said.text)) <= LONGEST:
            yield Behavior(
                user=pseudonym(said.sender),
                id=f"{conversation}/{i}",
                input=heard.text,
                output=said.text,
                at=said.at,
                fields={"conversation": conversation},
            )


def _turns(messages: list[list[dict[str, str]]]) -> Iterator[_Turn]:
    """Consecutive messages of one sender as one turn, a line each; blank messages are left out."""
    written = (m for turn in messages for m in turn if m["text"].strip())
    for sender, group in groupby(written, key=lambda m: m["sender"]):
        lines = list(group)
        text = hide_addresses("\n".join(m["text"].strip() for m in lines))
        yield _Turn(sender, text, _seconds(lines[0]["timestamp"]))


def _seconds(timestamp: str) -> float:
    at = datetime.fromisoformat(timestamp)
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def _is_person(replies: list[Behavior]) -> bool:
    commonest = Counter(b.output.casefold() for b in replies).most_common(1)[0][1]
    return len(replies) >= FEWEST and commonest <= MOST_ALIKE * len(replies)
