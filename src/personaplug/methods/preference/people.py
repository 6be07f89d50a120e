"""Other users' feedback as a table: a vector each user, a vector and the texts each item, as tensors of an artifact.

Shapes: u: users, m: items, e: the encoder's width.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from personaplug.core.types import Behavior, History
from personaplug.data.feedback import DISLIKED, answers_of, preference
from personaplug.encoders.base import unit
from personaplug.encoders.cache.embeddings import VectorCache
from personaplug.methods.preference import ANSWER_TEXT, PROMPT_TEXT

if TYPE_CHECKING:
    import torch

UserVector = Literal["difference", "liked", "disliked"]


@dataclass(frozen=True, slots=True, eq=False)
class People:
    """Users and their items.

    Attributes:
        vectors: [u, e], unit length.
        names: [u] digests of the users' names, so that nobody is their own neighbour.
        items: [m, e] what of each item is compared with a request, by default its prompt; unit length.
        owners: [m] whose each item is, an index into the users.
        texts: for each item its prompt, the liked and the disliked answer ("" where there is none).
    """

    vectors: NDArray[np.float32]
    names: NDArray[np.int64]
    items: NDArray[np.float32]
    owners: NDArray[np.int64]
    texts: tuple[tuple[str, str, str], ...]

    def item(self, index: int) -> Behavior:
        """An item as a behaviour; it does not say whose."""
        prompt, liked, disliked = self.texts[index]
        if not liked:
            return Behavior("neighbour", str(index), prompt, disliked, rating=0.0)
        return Behavior("neighbour", str(index), prompt, liked, rating=1.0, fields={DISLIKED: disliked})

    def tensors(self) -> dict[str, torch.Tensor]:
        """What an artifact keeps."""
        import torch

        arrays: dict[str, NDArray[np.generic]] = {
            "vectors": self.vectors, "names": self.names, "items": self.items, "owners": self.owners
        }  # fmt: skip
        arrays["texts"] = np.frombuffer(json.dumps(self.texts).encode(), np.uint8)
        return {f"people.{k}": torch.from_numpy(v.copy()) for k, v in arrays.items()}

    @staticmethod
    def of_tensors(tensors: Mapping[str, torch.Tensor]) -> People:
        """What `tensors` gave."""
        arrays = {k.removeprefix("people."): v.cpu().numpy() for k, v in tensors.items()}
        texts = tuple((p, a, b) for p, a, b in json.loads(arrays.pop("texts").tobytes() or b"[]"))
        return People(**arrays, texts=texts)


def nobody(width: int) -> People:
    """No users at all."""
    empty = np.zeros((0, width), np.float32)
    return People(empty, np.zeros(0, np.int64), empty, np.zeros(0, np.int64), ())


def gather(histories: Sequence[History], vectors: VectorCache, how: UserVector, item_text: str = PROMPT_TEXT) -> People:
    """The table of these users' feedback; `item_text` is the template of what of an item is compared."""
    behaviors = [b for h in histories for b in h]
    for side in ("liked", "disliked"):  # in large batches, and not user by user
        vectors.precompute(answers_of(behaviors, side), ANSWER_TEXT)
    vectors.precompute(behaviors, item_text)
    users = [user_vector(h, vectors, how) for h in histories]
    items = [unit(vectors.embed(h, item_text)) for h in histories]
    return People(
        np.stack(users) if users else np.zeros((0, vectors.width), np.float32),
        np.array([digest_of_name(h.user) for h in histories], np.int64),
        np.concatenate(items) if items else np.zeros((0, vectors.width), np.float32),
        np.repeat(np.arange(len(histories)), [len(h) for h in histories]).astype(np.int64),
        tuple(_texts(b) for b in behaviors),
    )


def user_vector(history: History, vectors: VectorCache, how: UserVector) -> NDArray[np.float32]:
    """A user as a vector [e] of unit length: the mean liked answer minus the mean disliked one; zeros if neither is."""
    total = np.zeros(vectors.width, np.float32)
    for side, sign in (("liked", 1.0), ("disliked", -1.0)):
        answers = answers_of(history, side)
        if answers and how in ("difference", side):
            signed = sign if how == "difference" else 1.0
            total += np.float32(signed) * vectors.embed(History(history.user, tuple(answers)), ANSWER_TEXT).mean(axis=0)
    return unit(total)


def longest(histories: Iterable[History]) -> list[History]:
    """Each user's longest history, in the order of their first."""
    by_user: dict[str, History] = {}
    for history in histories:
        if len(history) > len(by_user.get(history.user, ())):
            by_user[history.user] = history
    return list(by_user.values())


def digest_of_name(user: str | None) -> int:
    """A user's name as a number."""
    data = (user or "").encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little", signed=True)


def _texts(behavior: Behavior) -> tuple[str, str, str]:
    said = preference(behavior)
    return said.prompt, said.liked or "", said.disliked or ""
