"""Access of a request, for its route: the service, the caller, and the user as whom it is served."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import unquote

from fastapi import Depends, Path, Request

from personaplug.serve.openai.errors import ApiError
from personaplug.serve.runtime.service import Service
from personaplug.serve.security.authorization import Caller, DeniedError, Scope, decide


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
        """As whom it is served, or None for nobody in particular; see `authorization.decide`.

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
