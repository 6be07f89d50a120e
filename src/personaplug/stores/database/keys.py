"""The table of a server's API keys; it holds hashes of their secrets only."""

from __future__ import annotations

from dataclasses import dataclass, fields

from sqlalchemy import func, select, update

from personaplug.stores.database.connection import Database
from personaplug.stores.database.schema import API_KEYS


@dataclass(frozen=True, slots=True)
class KeyRow:
    """An API key as it is stored.

    Attributes:
        id: public part of the key, by which it is looked up.
        hash: of its secret part.
        name: a label for its owner.
        tenant: whose users it may reach; "" is the store's own.
        users: which of them, or None for all.
        scopes: what it allows.
        rate: requests a second, or None for the server's default.
        created: UTC seconds.
        revoked: UTC seconds, or None while it is valid.
        user_rate: requests a second for one user, or None for the server's default.
        body_bytes: of a request at most, or None for the server's limit.
        behaviors: stored for a user at most, or None for no limit.
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
    """API keys in a store's database; several processes may share it."""

    def __init__(self, url: str) -> None:
        self._db = Database(url)

    def add(self, row: KeyRow) -> None:
        """Store a new key."""
        with self._db.write() as connection:
            connection.execute(API_KEYS.insert(), {f.name: getattr(row, f.name) for f in fields(row)})

    def get(self, id_: str) -> KeyRow | None:
        """A key, revoked or not."""
        with self._db.read() as connection:
            row = connection.execute(select(*_COLUMNS).where(API_KEYS.c.id == id_)).one_or_none()
        return KeyRow(*row) if row else None

    def all(self) -> list[KeyRow]:
        """All keys, revoked ones included, oldest first."""
        with self._db.read() as connection:
            rows = connection.execute(select(*_COLUMNS).order_by(API_KEYS.c.created, API_KEYS.c.id))
            return [KeyRow(*row) for row in rows]

    def count(self) -> int:
        """Number of keys, revoked ones included."""
        with self._db.read() as connection:
            return int(connection.execute(select(func.count()).select_from(API_KEYS)).scalar_one())

    def revoke(self, id_: str, at: float) -> bool:
        """Revoke a key for ever; returns whether there was a valid one."""
        good = (API_KEYS.c.id == id_) & API_KEYS.c.revoked.is_(None)
        with self._db.write() as connection:
            return connection.execute(update(API_KEYS).where(good).values(revoked=at)).rowcount > 0

    def close(self) -> None:
        """Release files and connections."""
        self._db.close()


_COLUMNS = [API_KEYS.c[f.name] for f in fields(KeyRow)]
