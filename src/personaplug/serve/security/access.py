"""Access: who asks (API keys), how often (rate limits), and as whom a request is served.

Authorization: the key grants access; the body may only narrow it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Annotated, Literal
from urllib.parse import unquote

from cachetools import LRUCache, TTLCache
from fastapi import Depends, Path, Request

from personaplug.core.names import LONGEST_USER, TENANT_SEPARATOR, is_name
from personaplug.serve.openai.errors import ApiError
from personaplug.stores.database.keys import KeyRow, KeyTable

if TYPE_CHECKING:
    from personaplug.serve.runtime.service import Service

Scope = Literal["read", "write", "admin"]
SCOPES: tuple[Scope, ...] = ("read", "write", "admin")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as their key says.

    Attributes:
        key: the key's id; "" where none is needed.
        tenant: whose users they reach; "" is the store's own, which the command line works on.
        users: which of them, or None for all.
        scopes: what they may do: `read` (answers, histories), `write` (histories), `admin` (erase, measure).
        rate: requests a second, or None for the server's default.
        user_rate: the same for one user.
        body_bytes: of a request at most, where that is less than the server takes.
        behaviors: that may be stored of a user through this key, or None for any number.
    """

    key: str
    tenant: str = ""
    users: frozenset[str] | None = None
    scopes: frozenset[str] = frozenset()
    rate: float | None = None
    user_rate: float | None = None
    body_bytes: int | None = None
    behaviors: int | None = None

    def stored(self, user: str) -> str:
        """A user's name in the store: no two tenants share one."""
        return f"{self.tenant}{TENANT_SEPARATOR}{user}" if self.tenant else user

    @property
    def prefix(self) -> str:
        """How the names of the tenant's users begin in the store."""
        return self.stored("")


LOCAL = Caller("", scopes=frozenset(SCOPES))
"""Who asks a server on loopback that has no keys."""


class DeniedError(Exception):
    """The caller may not; `status` says in what way, `param` what claimed too much."""

    def __init__(self, status: int, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.param = param


def decide(caller: Caller, scope: Scope, claims: Mapping[str, str | None]) -> str | None:
    """As whom a request is served: the one place where this is decided.

    Args:
        caller: what the key says.
        scope: what the request wants to do.
        claims: what the request says of its user, by the field that says it.

    Returns:
        The user's name as the caller knows it, or None for nobody in particular.

    Raises:
        DeniedError: 403: the key lacks the scope or does not reach the user, or two claims differ; 400: no name at all.
    """
    if scope not in caller.scopes:
        raise DeniedError(403, f"this key may not {scope}; use one that has the scope {scope!r}")
    named = {field: name for field, name in claims.items() if name is not None}
    field, name = next(iter(named.items()), ("", None))
    if name is None:  # nobody is claimed: a key of one user speaks for that one, any other for nobody
        return next(iter(caller.users)) if caller.users is not None and len(caller.users) == 1 else None
    other = next((f for f, n in named.items() if n != name), None)
    if other is not None:
        raise DeniedError(403, f"{field} and {other} name different users; name one", other)
    if not is_name(name):
        raise DeniedError(
            400, f"{field} is no user's name: 1 to {LONGEST_USER} characters, no control characters, not . or ..", field
        )
    if caller.users is not None and name not in caller.users:
        raise DeniedError(
            403, f"{field}: this key does not reach that user; use one that does, or leave {field} out", field
        )
    return name


# -- who asks ----------------------------------------------------------------------------------------------------------


_KEY = re.compile(r"pp-([a-z0-9]{12})-([A-Za-z0-9_-]{43})")
_CACHED_SECONDS = 2.0  # a revoked key works no longer than that


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
            return _split_key(key)[0] in self._cache

    def caller(self, key: str, *, open_locally: bool) -> Caller | None:
        """The caller whom a key stands for, or None if it is not valid.

        Args:
            key: as it was sent; "" is none.
            open_locally: without a key one may do everything, as long as none was ever made, revoked ones included.
        """
        id_, secret = _split_key(key)
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
        same = hmac.compare_digest(row.hash if row else bytes(32), hash_secret(secret))
        if row is None or not same or row.revoked is not None:
            return None
        users = None if row.users is None else frozenset(row.users)
        return Caller(
            row.id, row.tenant, users, frozenset(row.scopes), row.rate, row.user_rate, row.body_bytes, row.behaviors
        )


def _split_key(key: str) -> tuple[str, str]:
    """A key's id and secret, or two empty texts."""
    parts = _KEY.fullmatch(key)
    return (parts[1], parts[2]) if parts else ("", "")


def hash_secret(secret: str) -> bytes:
    """What is stored of a key's secret."""
    # One round is enough: a secret of 256 random bits cannot be guessed, unlike a password.
    return hashlib.sha256(secret.encode()).digest()


# -- how often ---------------------------------------------------------------------------------------------------------


_MAX_BUCKETS = 100_000  # the least recently used are dropped beyond that


@dataclass(slots=True)
class _Bucket:
    left: float
    at: float


class RateLimiter:
    """Token buckets, one for each name: it holds `burst` seconds' worth, fills at `rate`, and a request takes 1.

    Args:
        burst: seconds.
        clock: seconds, for tests.
    """

    def __init__(self, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._burst = burst
        self._clock = clock
        self._buckets: LRUCache[str, _Bucket] = LRUCache(_MAX_BUCKETS)

    def take(self, name: str, rate: float) -> float:
        """Take 1 from a bucket; returns 0, or the seconds after which there will be enough.

        Args:
            name: whose bucket.
            rate: how fast it fills, in requests a second; 0 is no limit.
        """
        if rate <= 0:
            return 0.0
        now, most = self._clock(), max(rate * self._burst, 1.0)
        bucket = self._buckets.get(name) or _Bucket(most, now)
        bucket.left = min(most, bucket.left + (now - bucket.at) * rate)
        bucket.at = now
        self._buckets[name] = bucket
        if bucket.left < 1:
            return (1 - bucket.left) / rate
        bucket.left -= 1
        return 0.0


# -- for a route -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Access:
    """A request that was let in.

    Attributes:
        service: what is served.
        caller: who asks.
        arrived: when it came (`time.perf_counter`).
    """

    service: Service
    caller: Caller
    arrived: float
    request: Request

    def authorize(self, scope: Scope, claims: Mapping[str, str | None]) -> str | None:
        """As whom it is served, or None for nobody in particular; see `decide`.

        Raises:
            ApiError: 403, the key does not allow it; 429, this user has asked too often.
        """
        try:
            user = decide(self.caller, scope, claims)
        except DeniedError as denied:
            raise ApiError(denied.status, str(denied), param=denied.param, code="denied") from None
        if user is not None:
            own, default = self.caller.user_rate, self.service.settings.user_rate
            # A bucket for each key that has a rate of its own: what others allow the same user is not theirs to spend.
            name = f"user {self.caller.key if own is not None else ''} {self.caller.stored(user)}"
            wait = self.request.app.state.limiter.take(name, default if own is None else own)
            if wait:
                raise ApiError(
                    429, "too many requests for this user; wait a little", code="rate_limited", retry_after=wait
                )
        return user

    def check_quota(self, user: str, new: int) -> None:
        """Check that a user's history may grow by `new` behaviours; asks the store.

        Raises:
            ApiError: 403, the key's quota does not allow it.
        """
        most = self.caller.behaviors
        if most is None or not new:
            return
        name = self.caller.stored(user)
        stored = sum(info.behaviors for info in self.service.store.find_users(name, limit=1) if info.user == name)
        if stored + new > most:
            raise ApiError(
                403,
                f"{new:,} behaviours would join {stored:,}, but this key keeps at most {most:,} of a user; delete some",
                code="history_full",
            )

    def stored(self, user: str | None) -> str | None:
        """The user's name in the store."""
        return None if user is None else self.caller.stored(user)


async def access_of(request: Request) -> Access:
    """The access that the middlewares have established."""
    state = request.state
    return Access(request.app.state.service, state.caller, state.arrived, request)


# Not `def`: each would wait for a thread.
CurrentAccess = Annotated[Access, Depends(access_of)]


def _unquoted(text: str, what: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise ApiError(400, f"the {what} in the address is not UTF-8", param=what) from None


async def user_in_path(user: Annotated[str, Path(description="A user's name, percent-encoded.")]) -> str:
    """The user that the address names."""
    return _unquoted(user, "user")


async def behavior_in_path(behavior: Annotated[str, Path(description="A behaviour's id, percent-encoded.")]) -> str:
    """The behaviour that the address names."""
    return _unquoted(behavior, "behavior")


PathUser = Annotated[str, Depends(user_in_path)]
PathBehavior = Annotated[str, Depends(behavior_in_path)]
