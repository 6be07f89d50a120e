"""The store in SQL: one SQLite file that several processes share, or PostgreSQL at scale."""

from __future__ import annotations

import difflib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import (
    Connection,
    Integer,
    Row,
    Select,
    Text,
    bindparam,
    delete,
    func,
    literal,
    select,
    update,
)

from personaplug.core.errors import DataError, UnknownUserError
from personaplug.core.names import quoted, user_fault
from personaplug.core.types import Behavior, History, State
from personaplug.stores.base import ErasureReceipt, Inventory, Store, UserInfo, VectorRow
from personaplug.stores.database.connection import Database, document
from personaplug.stores.database.queries import UPDATE_USER, chunks, locked_users, recount, stored_content, user_update
from personaplug.stores.database.rows import (
    behavior_rows,
    conflict,
    pack_digest,
    pack_state,
    pack_vector,
    unpack_digest,
    unpack_state,
    unpack_vector,
)
from personaplug.stores.database.schema import BEHAVIORS, BLOCK, BLOCKS, ENCODERS, METADATA, STATES, USERS, VECTORS

_ERASED = "personaplug.erased"  # metadata: how often data of users was erased


@dataclass(frozen=True, slots=True)
class SqlConfig:
    """`url`: the path of a SQLite file, or `sqlite:///PATH`, or `postgresql://USER:PASSWORD@HOST/DATABASE`."""

    url: str = "personaplug.db"


class SqlStore(Store):
    """Users, behaviours, vectors and states in one schema; threads and processes may share them.

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
        self.keeps_nul = self._db.sqlite
        self._encoders: dict[str, int] = {}  # name -> key; neither ever changes

    def add(self, behaviors: Iterable[Behavior]) -> int:
        """See `Store.add`."""
        rows = behavior_rows(behaviors, self.keeps_nul)
        with self._db.write() as connection:
            users = self._ensure_users(connection, sorted({user for user, _ in rows}))
            new: list[dict[str, Any]] = []
            times: dict[str, list[float | None]] = {}
            for chunk in chunks(list(rows.items())):
                stored = stored_content(connection, [(users[user].key, id_) for (user, id_), _ in chunk])
                for (user, id_), row in chunk:
                    known = stored.get((users[user].key, id_))
                    if known is None:
                        new.append({**row, "user": users[user].key, "id": id_})
                        times.setdefault(user, []).append(row["at"])
                    elif known != row:
                        raise conflict(user, id_, "stored already")
            if new:
                connection.execute(BEHAVIORS.insert(), new)
                connection.execute(UPDATE_USER, [user_update(users[user], ats) for user, ats in times.items()])
        return len(new)

    def create(self, user: str) -> bool:
        """See `Store.create`."""
        fault = user_fault(user)
        if fault:
            raise DataError(f"user {quoted(user)}: the name {fault}; give another name")
        insert = self._db.insert(USERS).values(name=user, version=0).on_conflict_do_nothing().returning(USERS.c.key)
        with self._db.write() as connection:
            return connection.execute(insert).first() is not None

    def replace(self, behavior: Behavior) -> bool:
        """See `Store.replace`."""
        [((user, id_), row)] = behavior_rows([behavior], self.keeps_nul).items()
        with self._db.write() as connection:
            key, _ = self._user(connection, user)
            known = stored_content(connection, [(key, id_)]).get((key, id_))
            if known is None:
                raise DataError(f"user {user!r} has no behaviour {id_!r}; add it first")
            if known == row:
                return False
            here = (BEHAVIORS.c.user == key) & (BEHAVIORS.c.id == id_)
            old = select(BEHAVIORS.c.key).where(here)
            connection.execute(delete(VECTORS).where(VECTORS.c.user == key, VECTORS.c.behavior.in_(old)))
            connection.execute(update(BEHAVIORS).where(here).values(row))
            token = self._after_removal(connection, key)
        self._db.erase(token)
        return True

    def _after_removal(self, connection: Connection, key: int) -> str:
        """Drop states and recount after text of a user was removed; returns the erasure's token."""
        connection.execute(delete(STATES).where(STATES.c.user == key))
        connection.execute(recount(key))
        return self._count_erasure(connection)

    def _count_erasure(self, connection: Connection) -> str:
        """Count an erasure of a user's data; returns its token."""
        token = self._db.begin_erasing(connection)  # first: a concurrent erasure waits here, and both are counted
        self._db.put_document(connection, _ERASED, {"times": _erased(connection) + 1})
        return token

    def remove(self, user: str, ids: Sequence[str]) -> int:
        """See `Store.remove`.

        Raises:
            UnknownUserError: no such user.
        """
        with self._db.write() as connection:
            key, _ = self._user(connection, user)
            removed = 0
            for some in chunks(list(dict.fromkeys(ids))):
                removed_keys = select(BEHAVIORS.c.key).where(BEHAVIORS.c.user == key, BEHAVIORS.c.id.in_(some))
                own = VECTORS.c.user == key
                connection.execute(delete(VECTORS).where(own, VECTORS.c.behavior.in_(removed_keys)))
                removed += connection.execute(delete(BEHAVIORS).where(BEHAVIORS.c.key.in_(removed_keys))).rowcount
            if removed:
                token = self._after_removal(connection, key)
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
            return History(user, tuple(Behavior.from_store(user, *row) for row in rows), version)

    def version_stamp(self, user: str) -> tuple[int, int] | None:
        """See `Store.version_stamp`."""
        erased = select(METADATA.c.value).where(METADATA.c.key == _ERASED).scalar_subquery()
        query = select(USERS.c.version, erased).where(USERS.c.name == user)
        with self._db.read() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else (row[0], _times(row[1]))

    def users(self) -> list[UserInfo]:
        """See `Store.users`."""
        u = USERS.c
        query = select(u.name, u.behaviors, u.version, u.first, u.last)
        with self._db.read() as connection:
            return sorted((UserInfo(*row) for row in connection.execute(query)), key=lambda info: info.user)

    def find_users(self, prefix: str = "", after: str = "", limit: int = 100, without: str = "") -> list[UserInfo]:
        """See `Store.find_users`."""
        u = USERS.c
        query = select(u.name, u.behaviors, u.version, u.first, u.last).where(u.name > after)
        if prefix:  # not LIKE, which ignores case in SQLite
            query = query.where(u.name >= prefix, func.substr(u.name, 1, len(prefix)) == prefix)
            if self._db.sqlite and ord(prefix[-1]) < 0xD7FF:  # an upper bound, so that the index is used
                query = query.where(u.name < prefix[:-1] + chr(ord(prefix[-1]) + 1))
        if without:
            query = query.where(~u.name.contains(without, autoescape=True))
        with self._db.read() as connection:
            return [UserInfo(*row) for row in connection.execute(query.order_by(u.name).limit(limit))]

    def inventory(self, user: str) -> Inventory:
        """See `Store.inventory`."""
        with self._db.read() as connection:
            key, _ = self._user(connection, user)
            encoders = select(ENCODERS.c.name).where(
                ENCODERS.c.key.in_(select(VECTORS.c.encoder).where(VECTORS.c.user == key))
            )
            methods = select(STATES.c.method).where(STATES.c.user == key)
            return Inventory(*(tuple(sorted(connection.execute(query).scalars())) for query in (encoders, methods)))

    def vectors(self, user: str, encoder: str, digests: Sequence[str] | None = None) -> dict[str, NDArray[np.float32]]:
        """See `Store.vectors`; {} for an unknown user."""
        v = VECTORS.c
        query = select(v.digest, v.dim, v.vector).join_from(USERS, VECTORS).where(USERS.c.name == user)
        parts = [query]
        if digests is not None:
            parts = [query.where(v.digest.in_(some)) for some in chunks([pack_digest(d) for d in digests])]
        vectors: dict[str, NDArray[np.float32]] = {}
        with self._db.read() as connection:
            key = self._encoder(connection, encoder)
            for part in parts:
                vectors |= self._unpack(connection, part.where(v.encoder == key))
        return vectors

    def find_vectors(self, encoder: str, digests: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """See `Store.find_vectors`."""
        v = VECTORS.c
        vectors: dict[str, NDArray[np.float32]] = {}
        with self._db.read() as connection:
            key = self._encoder(connection, encoder)
            newest = connection.execute(select(func.max(v.block))).scalar() or 0
            blocks = range(max(0, newest + 1 - BLOCKS), newest + 1)
            for some in chunks([pack_digest(digest) for digest in dict.fromkeys(digests)]):
                query = select(v.digest, v.dim, v.vector)
                query = query.where(v.block.in_(blocks), v.digest.in_(some), v.encoder == key)
                vectors |= self._unpack(connection, query)
        return vectors

    def put_vectors(self, encoder: str, rows: Sequence[VectorRow]) -> None:
        """See `Store.put_vectors`.

        Raises:
            DataError: a vector is not one-dimensional, or holds a number that float16 cannot.
        """
        parameters = [
            {"user_": r.user, "id_": r.behavior, "digest": pack_digest(r.digest), "dim": len(blob) // 2, "vector": blob}
            for r, blob in ((r, pack_vector(r)) for r in rows)
        ]
        columns = [VECTORS.c[name] for name in ("user", "behavior", "block", "encoder", "digest", "dim", "vector")]
        b = BEHAVIORS.c
        block = b.key.bitwise_rshift(literal(BLOCK, Integer))  # PostgreSQL cannot shift by a bigint
        source = select(b.user, b.key, block, *(bindparam(c.name, type_=c.type) for c in columns[3:]))
        source = source.where(b.user == bindparam("user_", type_=b.user.type), b.id == bindparam("id_", type_=Text))
        insert = self._db.insert(VECTORS).from_select(columns, source)
        statement = insert.on_conflict_do_update(
            index_elements=columns[1:5], set_={"dim": insert.excluded.dim, "vector": insert.excluded.vector}
        )
        with self._db.write(durable=False) as connection:
            key = self._ensure_encoder(connection, encoder)
            users = locked_users(connection, sorted({r.user for r in rows}))  # no behaviour goes meanwhile
            known = [{**p, "user_": users[p["user_"]].key, "encoder": key} for p in parameters if p["user_"] in users]
            for chunk in chunks(known):
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
        with self._db.write(durable=False) as connection:
            key, _ = self._user(connection, user)
            insert = self._db.insert(STATES).values(user=key, method=method, version=version, arrays=arrays)
            new = {"version": insert.excluded.version, "arrays": insert.excluded.arrays}
            connection.execute(insert.on_conflict_do_update(index_elements=[STATES.c.user, STATES.c.method], set_=new))

    def forget(self, user: str) -> ErasureReceipt:
        """See `Store.forget`; if the process dies midway, the next one to open the store ends the erasure."""
        with self._db.write() as connection:
            key, _ = self._user(connection, user)
            behaviors, vectors, states = (
                connection.execute(select(func.count()).select_from(table).where(condition)).scalar_one()
                for table, condition in (
                    (BEHAVIORS, BEHAVIORS.c.user == key),
                    (VECTORS, VECTORS.c.user == key),
                    (STATES, STATES.c.user == key),
                )
            )
            connection.execute(delete(USERS).where(USERS.c.key == key))
            token = self._count_erasure(connection)
        self._db.erase(token)
        return ErasureReceipt(user, behaviors, vectors, states, time.time())

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

    def _ensure_users(self, connection: Connection, names: Sequence[str]) -> dict[str, Row[Any]]:
        """Name -> row, for new and old users."""
        insert = self._db.insert(USERS).on_conflict_do_nothing()
        for some in chunks(names):
            connection.execute(insert, [{"name": name, "version": 0} for name in some])
        return locked_users(connection, names)

    def _encoder(self, connection: Connection, name: str) -> int | None:
        if name not in self._encoders:
            key = connection.execute(select(ENCODERS.c.key).where(ENCODERS.c.name == name)).scalar_one_or_none()
            if key is None:
                return None
            self._encoders[name] = key
        return self._encoders[name]

    def _ensure_encoder(self, connection: Connection, name: str) -> int:
        key = self._encoder(connection, name)
        if key is None:  # not remembered yet: this transaction may be taken back
            connection.execute(self._db.insert(ENCODERS).values(name=name).on_conflict_do_nothing())
            key = connection.execute(select(ENCODERS.c.key).where(ENCODERS.c.name == name)).scalar_one()
        return key

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

    def _unpack(self, connection: Connection, query: Select[Any]) -> dict[str, NDArray[np.float32]]:
        vectors: dict[str, NDArray[np.float32]] = {}
        for digest, dim, blob in connection.execute(query):
            vector = unpack_vector(blob, dim)
            if vector is None:
                raise DataError(
                    f"store {self._db.where}: vector {unpack_digest(digest)!r} is damaged; "
                    "restore the store from a backup"
                )
            vectors[unpack_digest(digest)] = vector
        return vectors


def _erased(connection: Connection) -> int:
    return _times(document(connection, _ERASED))


def _times(erased: Mapping[str, int] | None) -> int:
    return 0 if erased is None else erased.get("times", erased.get("users", 0))  # "users": an older form
