"""API keys: made once, shown once, stored as hashes."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from personaplug.core.errors import ConfigError, UnknownNameError
from personaplug.core.names import is_name
from personaplug.serve.security.access import SCOPES, hash_secret
from personaplug.stores.database.keys import KeyRow, KeyTable

_TENANT = re.compile(r"[a-z0-9-]{0,64}")


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
        hash=hash_secret(secret),
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
