"""Authorization: the key grants access; the body may only narrow it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from personaplug.core.names import LONGEST_USER, TENANT_SEPARATOR, is_name

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
