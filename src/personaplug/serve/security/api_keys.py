"""API keys: made once, shown once, stored as hashes."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from threading import Lock

from cachetools import TTLCache

from personaplug.core.errors import ConfigError, UnknownNameError
from personaplug.core.names import is_name
from personaplug.serve.security.authorization import LOCAL, SCOPES, Caller
from personaplug.stores.database.keys import KeyRow, KeyTable

_KEY = re.compile(r"pp-([a-z0-9]{12})-([A-Za-z0-9_-]{43})")
_TENANT = re.compile(r"[a-z0-9-]{0,64}")
_CACHED_SECONDS = 2.0  # a revoked key works no longer than that


@dataclass(frozen=True, slots=True)
class Limits:
    """A key's own limits; None leaves the server's.

    Attributes:
        rate: requests a second; 0 is no limit.
        user_rate: the same for one user.
        body_bytes: of a request; what the server takes at most stays.
        behaviors: stored of a user.
    """

    rate: float | None = None
    user_rate: float | None = None
    body_bytes: int | None = None
    behaviors: int | None = None


def make_key(
    table: KeyTable,
    *,
    name: str = "",
    tenant: str = "",
    users: Sequence[str] = (),
    scopes: Sequence[str] = ("read", "write"),
    limits: Limits = Limits(),
) -> tuple[KeyRow, str]:
    """Make a key and store its hash; returns the stored row and the key itself, which cannot be recovered later.

    Raises:
        ConfigError: an invalid tenant, user, scope or limit.
    """
    if not _TENANT.fullmatch(tenant):
        raise ConfigError(f"tenant {tenant!r}: expected at most 64 of a-z, 0-9 and -")
    for user in users:
        if not is_name(user):
            raise ConfigError(f"user {user!r}: no user can have this name")
    for scope in scopes:
        if scope not in SCOPES:
            raise ConfigError(f"scope {scope!r}: expected {', '.join(SCOPES)}")
    if not scopes:
        raise ConfigError(f"a key needs a scope: {', '.join(SCOPES)}")
    for word, limit in asdict(limits).items():
        if limit is not None and limit < 0:
            raise ConfigError(f"{word} {limit}: expected 0 or more; a rate of 0 is no limit")
    id_ = "".join(secrets.choice("abcdefghijklmnopqrstuvwxyz0123456789") for _ in range(12))
    secret = secrets.token_urlsafe(32)
    row = KeyRow(
        id=id_,
        hash=_hash(secret),
        name=name,
        tenant=tenant,
        users=sorted(set(users)) or None,
        scopes=[scope for scope in SCOPES if scope in scopes],
        created=time.time(),
        **asdict(limits),
    )
    table.add(row)
    return row, f"pp-{id_}-{secret}"


def revoke_key(table: KeyTable, id_: str) -> None:
    """Revoke a key for ever.

    Raises:
        UnknownNameError: there is no good key of this id.
    """
    if not table.revoke(id_, time.time()):
        good = [row.id for row in table.all() if row.revoked is None]
        raise UnknownNameError(f"no key {id_!r} that is not revoked; there are: {', '.join(good) or 'none'}")


class KeyRing:
    """Looks keys up for a server, and caches them for a moment."""

    def __init__(self, table: KeyTable) -> None:
        self.table = table
        self._cache: TTLCache[str, tuple[KeyRow | None, bool]] = TTLCache(10_000, _CACHED_SECONDS)
        self._lock = Lock()

    def any_good(self) -> bool:
        """Whether anybody has a key that is not revoked."""
        return any(row.revoked is None for row in self.table.all())

    def fresh(self, key: str) -> bool:
        """Whether `caller` will answer without looking into the database."""
        with self._lock:
            return _split(key)[0] in self._cache

    def caller(self, key: str, *, open_locally: bool) -> Caller | None:
        """The caller whom a key stands for, or None if it is not valid.

        Args:
            key: as it was sent; "" is none.
            open_locally: without a key one may do everything, as long as none was ever made, revoked ones included.
        """
        id_, secret = _split(key)
        with self._lock:
            entry = self._cache.get(id_)
        if entry is None:
            entry = (self.table.get(id_), True) if id_ else (None, self.table.count() > 0)
            with self._lock:
                self._cache[id_] = entry
        row, any_made = entry
        if not key and open_locally and not any_made:
            return LOCAL
        # In constant time, and also where there is no such key: how long it takes tells nothing.
        same = hmac.compare_digest(row.hash if row else _NOBODY, _hash(secret))
        if row is None or not same or row.revoked is not None:
            return None
        users = None if row.users is None else frozenset(row.users)
        return Caller(
            row.id, row.tenant, users, frozenset(row.scopes), row.rate, row.user_rate, row.body_bytes, row.behaviors
        )


def _split(key: str) -> tuple[str, str]:
    """A key's id and secret, or two empty texts."""
    parts = _KEY.fullmatch(key)
    return (parts[1], parts[2]) if parts else ("", "")


def _hash(secret: str) -> bytes:
    # One round is enough: a secret of 256 random bits cannot be guessed, unlike a password.
    return hashlib.sha256(secret.encode()).digest()


_NOBODY = bytes(32)
