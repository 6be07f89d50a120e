"""SQL that several methods of the store share."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, bindparam, func, select, update

from personaplug.stores.database.schema import BEHAVIORS, USERS

T = TypeVar("T")

CHUNK = 1000  # rows in one statement: two values each, and SQLite takes at most 32,766


def stored_content(connection: Connection, pairs: Sequence[tuple[int, str]]) -> dict[tuple[int, str], dict[str, Any]]:
    """(user, id) -> the columns that hold content, as `behavior_rows` makes them."""
    # A join, since SQLite answers `(user, id) IN (...)` by scanning the whole table; and in plain SQL, since SQLAlchemy
    # takes ten times longer to compile these values than SQLite to look them up.
    slot = "(?, ?)" if connection.dialect.name == "sqlite" else "(%s, %s)"
    query = (
        f'WITH wanted("user", id) AS (VALUES {", ".join([slot] * len(pairs))}) '  # noqa: S608 - no value is in the text
        'SELECT b."user", b.id, b.input, b.output, b.at, b.rating, b.fields '
        'FROM wanted JOIN behaviors b ON b."user" = wanted."user" AND b.id = wanted.id'
    )
    stored = {}
    for user, id_, *content in connection.exec_driver_sql(query, tuple(value for pair in pairs for value in pair)):
        row = dict(zip(("input", "output", "at", "rating", "fields"), content, strict=True))
        if isinstance(row["fields"], str):  # SQLite has no JSON of its own
            row["fields"] = json.loads(row["fields"])
        stored[user, id_] = row
    return stored


def locked_users(connection: Connection, names: Sequence[str]) -> dict[str, Row[Any]]:
    """Name -> row of users, locked in the order of names: on PostgreSQL two writers of one user take turns."""
    u = USERS.c
    users: dict[str, Row[Any]] = {}
    for some in chunks(names):
        query = select(u.name, u.key, u.behaviors, u.first, u.last).where(u.name.in_(some)).order_by(u.name)
        users |= {row.name: row for row in connection.execute(query.with_for_update())}
    return users


def user_update(user: Row[Any], times: Sequence[float | None]) -> dict[str, Any]:
    """Parameters of `UPDATE_USER` for a user to whom behaviours of these times are added."""
    dated = [at for at in (user.first, user.last, *times) if at is not None]
    seen = {"first_": min(dated, default=None), "last_": max(dated, default=None)}
    return {"key_": user.key, "behaviors_": user.behaviors + len(times), **seen}


UPDATE_USER = (
    update(USERS)
    .where(USERS.c.key == bindparam("key_"))
    .values(
        version=USERS.c.version + 1,
        behaviors=bindparam("behaviors_"),
        first=bindparam("first_"),
        last=bindparam("last_"),
    )
)


def recount(user: int) -> Any:
    """The UPDATE that counts and dates a user anew from the behaviours that are left."""
    left = [
        select(aggregate).where(BEHAVIORS.c.user == user).scalar_subquery()
        for aggregate in (func.count(BEHAVIORS.c.key), func.min(BEHAVIORS.c.at), func.max(BEHAVIORS.c.at))
    ]
    values = dict(zip(("behaviors", "first", "last"), left, strict=True), version=USERS.c.version + 1)
    return update(USERS).where(USERS.c.key == user).values(values)


def chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """The items in chunks of as many as one statement takes."""
    return (items[i : i + CHUNK] for i in range(0, len(items), CHUNK))
