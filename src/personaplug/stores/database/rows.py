"""Conversion between columns and values: a behaviour's content, a vector's digest and bytes, a state's arrays."""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from personaplug.core.errors import ConflictError, DataError
from personaplug.core.types import Behavior, State
from personaplug.stores.base import NO_NUL, VectorRow, texts

CHECKSUM = 16  # bytes

_HASH = re.compile("[0-9a-f]{32}")


def behavior_rows(given: Iterable[Behavior], keeps_nul: bool) -> dict[tuple[str, str], dict[str, Any]]:
    """(user, id) -> the columns of `behaviors` that hold content; an id given twice counts once.

    Raises:
        ConflictError: an id is given twice with different contents.
        DataError: a text with NUL, which without `keeps_nul` the store cannot hold.
    """
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for b in given:
        row: dict[str, Any] = {
            "input": b.input,
            "output": b.output,
            "at": None if b.at is None else float(b.at),
            "rating": None if b.rating is None else float(b.rating),
            "fields": dict(b.fields),
        }
        if not keeps_nul and "\0" in texts(b):
            raise DataError(f"behaviour {b.id!r} of user {b.user!r}: {NO_NUL}")
        if rows.setdefault((b.user, b.id), row) != row:
            raise conflict(b.user, b.id, "given twice")
    return rows


def conflict(user: str, id_: str, how: str) -> ConflictError:
    """The error for one id with two contents."""
    return ConflictError(
        f"behaviour {id_!r} of user {user!r} is {how} with other content; use another id, or remove the old one first"
    )


def pack_digest(digest: str) -> bytes:
    """A content hash of 32 hex digits as byte 1 and 16 bytes, any other text as byte 0 and its UTF-8."""
    return b"\1" + bytes.fromhex(digest) if _HASH.fullmatch(digest) else b"\0" + digest.encode()


def unpack_digest(blob: bytes) -> str:
    """The inverse of `pack_digest`."""
    return blob[1:].hex() if blob[:1] == b"\1" else blob[1:].decode()


def pack_vector(row: VectorRow) -> bytes:
    """A vector [e] as little-endian float16.

    Raises:
        DataError: it is not one-dimensional, or holds a number that float16 cannot.
    """
    with np.errstate(over="ignore"):
        half = np.asarray(row.vector).astype("<f2")
    if half.ndim != 1 or not np.isfinite(half).all():
        raise DataError(
            f"vector of behaviour {row.behavior!r} of user {row.user!r}: shape {half.shape}, expected one dimension of "
            "finite numbers within float16's range (at most 65,504)"
        )
    return half.tobytes()


def unpack_vector(blob: bytes, dim: int) -> NDArray[np.float32] | None:
    """The vector [dim], or None where the bytes are too many or too few."""
    return np.frombuffer(blob, "<f2").astype(np.float32) if len(blob) == 2 * dim else None


def pack_state(state: State) -> bytes:
    """Named arrays as a checksum and a NumPy .npz archive, without pickles.

    Raises:
        DataError: an array of Python objects.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:  # not np.savez, which takes no array named "file"
        for name, array in state.items():
            if np.asarray(array).dtype.hasobject:
                raise DataError(f"state array {name!r} holds Python objects; keep numbers or strings in it")
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)
    return _checksum(buffer.getvalue()) + buffer.getvalue()


def unpack_state(blob: bytes) -> State | None:
    """The arrays, or None where the checksum says that a byte has changed."""
    if _checksum(blob[CHECKSUM:]) != blob[:CHECKSUM]:
        return None
    with np.load(io.BytesIO(blob[CHECKSUM:]), allow_pickle=False) as archive:
        return dict(archive)


def _checksum(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=CHECKSUM).digest()
