"""The table of keys that open a server; it holds hashes of their secrets alone."""

from __future__ import annotations

from dataclasses import dataclass, fields

from sqlalchemy import func, select, update

from personaplug.stores.database.connection import Database
from personaplug.stores.database.schema import API_KEYS


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A key as it is stored.

    Attributes:
        id: what it is called; part of the key.
        hash: of its secret.
        name: what its owner calls it.
        tenant: whose users it reaches; "" is the store's own.
        users: which of them, or None for all.
        scopes: what it may do.
        rate: requests a second, or None for the server's default.
        created: UTC seconds.
        revoked: UTC seconds, or None while it is good.
        user_rate: requests a second for one user, or None for the server's default.
        body_bytes: of a request at most, or None for what the server takes.
        behaviors: of a user at most, counting what is stored already, or None for any number.
    """

    id: str
    hash: bytes
    name: str
    tenant: str
    users: list[str] | None
    scopes: list[str]
    rate: float | None
    created: float
    revoked: float | None = None
    user_rate: float | None = None
    body_bytes: int | None = None
    behaviors: int | None = None


class KeyTable:
    """Keys kept in a store's database; several processes may share it."""

    def __init__(self, url: str) -> None:
        self._db = Database(url)

    def add(self, row: KeyRow) -> None:
        """Keep a new key."""
        with self._db.write() as connection:
            connection.execute(API_KEYS.insert(), {f.name: getattr(row, f.name) for f in fields(row)})

    def get(self, id_: str) -> KeyRow | None:
        """A key, revoked or not."""
        with self._db.read() as connection:
            row = connection.execute(select(*_COLUMNS).where(API_KEYS.c.id == id_)).one_or_none()
        return KeyRow(*row) if row else None

    def all(self) -> list[KeyRow]:
        """Every key ever made, oldest first."""
        with self._db.read() as connection:
            rows = connection.execute(select(*_COLUMNS).order_by(API_KEYS.c.created, API_KEYS.c.id))
            return [KeyRow(*row) for row in rows]

    def count(self) -> int:
        """How many keys were ever made."""
        with self._db.read() as connection:
            return int(connection.execute(select(func.count()).select_from(API_KEYS)).scalar_one())

    def revoke(self, id_: str, at: float) -> bool:
        """Close a key for ever; whether there was a good one."""
        good = (API_KEYS.c.id == id_) & API_KEYS.c.revoked.is_(None)
        with self._db.write() as connection:
            return connection.execute(update(API_KEYS).where(good).values(revoked=at)).rowcount > 0

    def close(self) -> None:
        """Release files and connections."""
        self._db.close()


_COLUMNS = [API_KEYS.c[f.name] for f in fields(KeyRow)]
