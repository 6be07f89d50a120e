"""The interface of every store: histories, vectors and prepared states of users, durable and erasable."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from personaplug.core.types import Behavior, History, State

NO_NUL = "the text holds NUL (\\0), which this store cannot hold; leave it out"


@dataclass(frozen=True, slots=True)
class UserInfo:
    """Counts and dates of a user's history; times are UTC seconds."""

    user: str
    behaviors: int
    version: int
    first: float | None
    last: float | None


@dataclass(frozen=True, slots=True)
class ErasureReceipt:
    """What `forget` erased."""

    user: str
    behaviors: int
    vectors: int
    states: int
    at: float


@dataclass(frozen=True, slots=True)
class Inventory:
    """Keys of the encoders whose vectors, and of the methods whose states, are stored for a user."""

    encoders: tuple[str, ...]
    methods: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class VectorRow:
    """One vector [e], float16 or float32, with its user, its behaviour and the digest of the encoded text."""

    user: str
    behavior: str
    digest: str
    vector: NDArray[np.floating[Any]]


def texts(b: Behavior) -> str:
    """All texts of a behaviour, concatenated."""
    return "".join((b.user, b.id, b.input, b.output, *b.fields, *b.fields.values()))


class Store(ABC):
    """Built as `Store(config)`; several processes may use one store.

    Every write is durable when the call returns, with one exception: the newest vectors and states, which can be made
    again, may be lost to a power cut, though not to a killed process.

    Attributes:
        keeps_nul: whether texts may hold NUL, the character 0; where not, `add` and `replace` refuse them by name.
    """

    keeps_nul: bool

    Config: ClassVar[type[Any]]
    summary: ClassVar[str]
    source: ClassVar[str]

    @abstractmethod
    def add(self, behaviors: Iterable[Behavior]) -> int:
        """Add behaviours in one transaction; returns how many were new.

        The same id with the same content adds nothing. A user's version rises by one for each call that adds to them.

        Raises:
            ConflictError: an id is stored already with other content; nothing of the call is added.
        """

    @abstractmethod
    def create(self, user: str) -> bool:
        """Create a user without behaviours unless they exist; returns whether they are new.

        Raises:
            DataError: an empty name.
        """

    @abstractmethod
    def replace(self, behavior: Behavior) -> bool:
        """Replace the content of a stored behaviour; returns whether it differs.

        Its vectors and the user's states are dropped, and no byte of the old text is left, as after `remove`.

        Raises:
            UnknownUserError: no such user.
            DataError: the user has no behaviour of that id.
        """

    @abstractmethod
    def remove(self, user: str, ids: Sequence[str]) -> int:
        """Delete behaviours with their vectors; returns how many there were. States of the user are dropped."""

    @abstractmethod
    def history(self, user: str) -> History:
        """The user's behaviours, oldest first (undated ones first, then by `at`, then in the order they were added).

        Raises:
            UnknownUserError: no such user; says how many there are and the nearest name.
        """

    @abstractmethod
    def version_stamp(self, user: str) -> tuple[int, int] | None:
        """What differs after each change of the user's history, also if they were erased and have come again.

        Its version, and how often something of anybody was erased (a user, or a behaviour's text); None where there is
        no such user. Cheap: nothing of the history is read, and no similar name is searched.
        """

    @abstractmethod
    def users(self) -> list[UserInfo]:
        """All users, by name."""

    @abstractmethod
    def find_users(self, prefix: str = "", after: str = "", limit: int = 100, without: str = "") -> list[UserInfo]:
        """A page of users, by name.

        Args:
            prefix: what their names begin with.
            after: the last name of the page before.
            limit: at most so many.
            without: names that hold this text are left out; "" leaves none out.
        """

    @abstractmethod
    def inventory(self, user: str) -> Inventory:
        """What is stored of a user beside the behaviours.

        Raises:
            UnknownUserError: no such user.
        """

    @abstractmethod
    def vectors(self, user: str, encoder: str, digests: Sequence[str] | None = None) -> dict[str, NDArray[np.float32]]:
        """Digest -> vector [e] of the user's vectors of this encoder key: all, or those of a few digests."""

    @abstractmethod
    def find_vectors(self, encoder: str, digests: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Digest -> vector [e] of any user, so that a text that several users wrote is encoded once.

        A store of millions of behaviours may search the newest only.
        """

    @abstractmethod
    def put_vectors(self, encoder: str, rows: Sequence[VectorRow]) -> None:
        """Store vectors as float16. A row whose behaviour is not stored (any more) is skipped."""

    @abstractmethod
    def state(self, user: str, method: str) -> tuple[int, State] | None:
        """The state that the method (its artifact's key) prepared for the user, with the history version it saw."""

    @abstractmethod
    def put_state(self, user: str, method: str, version: int, state: State) -> None:
        """Store a prepared state; replaces an older one of the same method. An unknown user is an error."""

    @abstractmethod
    def forget(self, user: str) -> ErasureReceipt:
        """Erase the user: afterwards no byte of their texts, vectors or states is left in any file of the store.

        Raises:
            UnknownUserError: no such user.
        """

    @abstractmethod
    def metadata(self, key: str) -> Mapping[str, Any] | None:
        """A small JSON document stored under `key` (for example what was ingested), or None."""

    @abstractmethod
    def put_metadata(self, key: str, value: Mapping[str, Any]) -> None:
        """Store a small JSON document under `key`."""

    @abstractmethod
    def close(self) -> None:
        """Release files and connections."""
