"""Everything that is held of a user, in one zip that other programs read."""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from personaplug.core.version import __version__
from personaplug.data.jsonl import write_lines
from personaplug.stores.base import Store


def archive(store: Store, stored: str, user: str) -> bytes:
    """Behaviours as `personaplug ingest` reads them, vectors and prepared states as NumPy arrays, and what is what.

    Args:
        store: where from.
        stored: the user's name there.
        user: the user's name in the archive.

    Raises:
        UnknownUserError: no such user.
    """
    history, held = store.history(stored), store.inventory(stored)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        with file.open("behaviors.jsonl", "w") as lines:
            for line in write_lines(replace(b, user=user) for b in history):
                lines.write(line)
        files = {"behaviors.jsonl": "what was done, oldest first"}
        for n, encoder in enumerate(held.encoders):
            files[f"vectors/{n}.npz"] = f"vectors of encoder {encoder}, by the digest of their text"
            _save(file, f"vectors/{n}.npz", store.vectors(stored, encoder))
        for n, method in enumerate(held.methods):
            version, state = store.state(stored, method) or (0, {})
            files[f"states/{n}.npz"] = f"prepared at version {version} for method {method}"
            _save(file, f"states/{n}.npz", state)
        about = {"user": user, "version": history.version, "behaviors": len(history), "exported": time.time()}
        file.writestr("about.json", json.dumps({**about, "personaplug": __version__, "files": files}, indent=2))
    return buffer.getvalue()


def _save(file: zipfile.ZipFile, name: str, arrays: Mapping[str, Any]) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as inner:  # not np.savez, which takes no array named "file"
        for key, array in arrays.items():
            with inner.open(f"{key}.npy", "w") as entry:
                np.lib.format.write_array(entry, np.asarray(array), allow_pickle=False)
    file.writestr(name, buffer.getvalue())
