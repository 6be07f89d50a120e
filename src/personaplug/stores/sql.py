"""The store in SQL: one SQLite file that several processes share, or PostgreSQL at scale."""

from __future__ import annotations

import difflib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Select, Text, bindparam, delete, func, select, update

from personaplug.errors import DataError, UnknownUserError
from personaplug.stores.base import Receipt, Store, UserInfo, VectorRow
from personaplug.stores.database.connection import Database, document
from personaplug.stores.database.rows import (
    behavior_rows,
    conflict,
    pack_state,
    pack_vector,
    unpack_state,
    unpack_vector,
)
from personaplug.stores.database.schema import BEHAVIORS, STATES, USERS, VECTORS
from personaplug.types import Behavior, History, State

T = TypeVar("T")

CHUNK = 1000  # rows in one statement: two values each, and SQLite takes at most 32,766


@dataclass(frozen=True, slots=True)
class SqlConfig:
    """`url`: the path of a SQLite file, or `sqlite:///PATH`, or `postgresql://USER:PASSWORD@HOST/DATABASE`."""

    url: str = "personaplug.db"


class SqlStore(Store):
    """Users, behaviours, vectors and states in five tables; threads and processes may share them.

    `remove` and `forget` rewrite the whole file (about a second for each 100 MB), since a deleted row leaves copies in
    the gaps of SQLite's pages, `secure_delete` or not. PostgreSQL's own log and backups keep bytes until they expire.

    Raises:
        ConfigError: the URL is not one, or of another database.
        DataError: what is there is no store, is damaged, cannot be reached, or was made by a newer personaplug.
    """

    Config = SqlConfig
    summary = "one SQLite file that several processes share, or PostgreSQL at scale"
    source = "https://www.sqlite.org/wal.html"

    def __init__(self, config: SqlConfig) -> None:
        self._db = Database(config.url)

    def add(self, behaviors: Iterable[Behavior]) -> int:
        """See `Store.add`."""
        rows = behavior_rows(behaviors)
        with self._db.write() as connection:
            keys = self._ensure_users(connection, sorted({user for user, _ in rows}))
            new = []
            for chunk in _chunks(list(rows.items())):
                stored = _stored_digests(connection, [(keys[user], id_) for (user, id_), _ in chunk])
                for (user, id_), row in chunk:
                    digest = stored.get((keys[user], id_))
                    if digest is None:
                        new.append({**row, "user": keys[user], "id": id_})
                    elif digest != row["digest"]:
                        raise conflict(user, id_, "stored already")
            if new:
                connection.execute(BEHAVIORS.insert(), new)
            for some in _chunks(sorted({row["user"] for row in new})):
                connection.execute(_bump().where(USERS.c.key.in_(some)))
        return len(new)

    def remove(self, user: str, ids: Sequence[str]) -> int:
        """See `Store.remove`.

        Raises:
            UnknownUserError: no such user.
        """
        with self._db.write() as connection:
            key, _ = self._user(connection, user)
            removed = 0
            for some in _chunks(list(dict.fromkeys(ids))):
                gone = delete(BEHAVIORS).where(BEHAVIORS.c.user == key, BEHAVIORS.c.id.in_(some))
                removed += connection.execute(gone).rowcount
            if removed:
                connection.execute(delete(STATES).where(STATES.c.user == key))
                connection.execute(_bump().where(USERS.c.key == key))
                token = self._db.begin_erasing(connection)
        if removed:
            self._db.erase(token)
        return removed

    def history(self, user: str) -> History:
        """See `Store.history`."""
        b = BEHAVIORS.c
        with self._db.read() as connection:
            key, version = self._user(connection, user)
            rows = connection.execute(
                select(b.id, b.input, b.output, b.at, b.rating, b.fields)
                .where(b.user == key)
                .order_by(b.at.nulls_first(), b.key)
            )
            return History(user, tuple(Behavior(user, *row) for row in rows), version)

    def users(self) -> list[UserInfo]:
        """See `Store.users`."""
        b = BEHAVIORS.c
        query = (
            select(USERS.c.name, func.count(b.key), USERS.c.version, func.min(b.at), func.max(b.at))
            .join_from(USERS, BEHAVIORS, isouter=True)
            .group_by(USERS.c.key)
        )
        with self._db.read() as connection:
            return sorted((UserInfo(*row) for row in connection.execute(query)), key=lambda info: info.user)

    def vectors(self, user: str, encoder: str) -> dict[str, NDArray[np.float32]]:
        """See `Store.vectors`; {} for an unknown user."""
        v = VECTORS.c
        query = (
            select(v.digest, v.dim, v.vector)
            .join_from(USERS, BEHAVIORS)
            .join(VECTORS)
            .where(USERS.c.name == user, v.encoder == encoder)
        )
        with self._db.read() as connection:
            return self._floats(connection, query)

    def find_vectors(self, encoder: str, digests: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """See `Store.find_vectors`."""
        v = VECTORS.c
        found: dict[str, NDArray[np.float32]] = {}
        with self._db.read() as connection:
            for some in _chunks(list(dict.fromkeys(digests))):
                query = select(v.digest, v.dim, v.vector).where(v.encoder == encoder, v.digest.in_(some))
                found |= self._floats(connection, query)
        return found

    def put_vectors(self, encoder: str, rows: Sequence[VectorRow]) -> None:
        """See `Store.put_vectors`.

        Raises:
            DataError: a vector is not one-dimensional, or holds a number that float16 cannot.
        """
        parameters = [
            {"name": r.user, "id_": r.behavior, "digest": r.digest, "dim": len(blob) // 2, "vector": blob}
            for r, blob in ((r, pack_vector(r)) for r in rows)
        ]
        columns = [VECTORS.c[name] for name in ("behavior", "encoder", "digest", "dim", "vector")]
        source = (
            select(
                BEHAVIORS.c.key,
                bindparam("encoder", encoder, Text),
                *(bindparam(c.name, type_=c.type) for c in columns[2:]),
            )
            .join_from(USERS, BEHAVIORS)
            .where(USERS.c.name == bindparam("name", type_=Text), BEHAVIORS.c.id == bindparam("id_", type_=Text))
        )
        insert = self._db.insert(VECTORS).from_select(columns, source)
        statement = insert.on_conflict_do_update(
            index_elements=columns[:3], set_={"dim": insert.excluded.dim, "vector": insert.excluded.vector}
        )
        with self._db.write() as connection:
            for chunk in _chunks(parameters):
                connection.execute(statement, list(chunk))

    def state(self, user: str, method: str) -> tuple[int, State] | None:
        """See `Store.state`; None for an unknown user.

        Raises:
            DataError: the stored arrays are damaged.
        """
        query = (
            select(STATES.c.version, STATES.c.arrays)
            .join_from(USERS, STATES)
            .where(USERS.c.name == user, STATES.c.method == method)
        )
        with self._db.read() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            return None
        arrays = unpack_state(row.arrays)
        if arrays is None:
            raise DataError(
                f"store {self._db.where}: the state of method {method!r} for user {user!r} is damaged; prepare it again"
            )
        return row.version, arrays

    def put_state(self, user: str, method: str, version: int, state: State) -> None:
        """See `Store.put_state`.

        Raises:
            UnknownUserError: no such user.
            DataError: an array of Python objects.
        """
        arrays = pack_state(state)
        with self._db.write() as connection:
            key, _ = self._user(connection, user)
            insert = self._db.insert(STATES).values(user=key, method=method, version=version, arrays=arrays)
            connection.execute(
                insert.on_conflict_do_update(
                    index_elements=[STATES.c.user, STATES.c.method], set_={"version": version, "arrays": arrays}
                )
            )

    def forget(self, user: str) -> Receipt:
        """See `Store.forget`; if the process dies midway, the next one to open the store ends the erasure."""
        with self._db.write() as connection:
            key, _ = self._user(connection, user)
            own = select(BEHAVIORS.c.key).where(BEHAVIORS.c.user == key)
            behaviors, vectors, states = (
                connection.execute(select(func.count()).select_from(table).where(condition)).scalar_one()
                for table, condition in (
                    (BEHAVIORS, BEHAVIORS.c.user == key),
                    (VECTORS, VECTORS.c.behavior.in_(own)),
                    (STATES, STATES.c.user == key),
                )
            )
            connection.execute(delete(USERS).where(USERS.c.key == key))
            token = self._db.begin_erasing(connection)
        self._db.erase(token)
        return Receipt(user, behaviors, vectors, states, time.time())

    def metadata(self, key: str) -> Mapping[str, Any] | None:
        """See `Store.metadata`."""
        with self._db.read() as connection:
            return document(connection, key)

    def put_metadata(self, key: str, value: Mapping[str, Any]) -> None:
        """See `Store.put_metadata`."""
        with self._db.write() as connection:
            self._db.put_document(connection, key, value)

    def close(self) -> None:
        """See `Store.close`."""
        self._db.close()

    def _ensure_users(self, connection: Connection, names: Sequence[str]) -> dict[str, int]:
        """Name -> key, for new and old users. The rows stay locked, in one order: on PostgreSQL two adds take turns."""
        keys: dict[str, int] = {}
        for some in _chunks(names):
            connection.execute(
                self._db.insert(USERS).on_conflict_do_nothing(), [{"name": name, "version": 0} for name in some]
            )
            query = select(USERS.c.name, USERS.c.key).where(USERS.c.name.in_(some)).order_by(USERS.c.name)
            keys |= {row.name: row.key for row in connection.execute(query.with_for_update())}
        return keys

    def _user(self, connection: Connection, user: str) -> tuple[int, int]:
        """A user's key and version; in a write, no other process changes the user until it ends."""
        query = select(USERS.c.key, USERS.c.version).where(USERS.c.name == user)
        if connection.get_execution_options().get("personaplug_writes"):
            query = query.with_for_update()
        row = connection.execute(query).one_or_none()
        if row is not None:
            return row.key, row.version
        count = connection.execute(select(func.count()).select_from(USERS)).scalar_one()
        similar = (
            select(USERS.c.name).where(func.length(USERS.c.name).between(len(user) - 2, len(user) + 2)).limit(5000)
        )
        near = difflib.get_close_matches(user, connection.execute(similar).scalars(), n=1)
        way_out = f"did you mean {near[0]!r}?" if near else "list them with `personaplug users list`"
        raise UnknownUserError(
            f"store {self._db.where}: no user {user!r} among {count:,} users; {way_out}"
            if count
            else f"store {self._db.where}: no user {user!r}, it has no users yet; add some with `personaplug ingest`"
        )

    def _floats(self, connection: Connection, query: Select[Any]) -> dict[str, NDArray[np.float32]]:
        found: dict[str, NDArray[np.float32]] = {}
        for digest, dim, blob in connection.execute(query):
            vector = unpack_vector(blob, dim)
            if vector is None:
                raise DataError(
                    f"store {self._db.where}: vector {digest!r} is damaged; restore the store from a backup"
                )
            found[digest] = vector
        return found


def _stored_digests(connection: Connection, pairs: Sequence[tuple[int, str]]) -> dict[tuple[int, str], bytes]:
    # A join, since SQLite answers `(user, id) IN (...)` by reading the whole table; and by hand, since SQLAlchemy takes
    # ten times longer to write these values down than SQLite to look them up.
    slot = "(?, ?)" if connection.dialect.name == "sqlite" else "(%s, %s)"
    query = (
        f'WITH wanted("user", id) AS (VALUES {", ".join([slot] * len(pairs))}) '  # noqa: S608 - no value is in the text
        'SELECT b."user", b.id, b.digest FROM wanted JOIN behaviors b ON b."user" = wanted."user" AND b.id = wanted.id'
    )
    rows = connection.exec_driver_sql(query, tuple(value for pair in pairs for value in pair))
    return {(user, id_): digest for user, id_, digest in rows}


def _bump() -> Any:
    return update(USERS).values(version=USERS.c.version + 1)


def _chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[i : i + CHUNK] for i in range(0, len(items), CHUNK))
