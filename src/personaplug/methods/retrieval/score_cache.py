"""A frozen model's scores of continuations, computed once ever: stored in one SQLite file, chunk by chunk."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from personaplug.backbones.base import Backbone
from personaplug.core.errors import DataError
from personaplug.core.types import Conditioning, Prompt, Scored

_WAIT = 60.0  # seconds to wait for another process that writes
_TABLE = "CREATE TABLE IF NOT EXISTS scores (key BLOB PRIMARY KEY, logprob REAL NOT NULL, tokens INTEGER NOT NULL)"
_READ = "SELECT logprob, tokens FROM scores WHERE key = ?"
_WRITE = "INSERT OR REPLACE INTO scores VALUES (?, ?, ?)"


class ScoreCache:
    """`Backbone.score` of text prompts, with a memory on disk. The file holds hashes and numbers, no text.

    Args:
        backbone: what scores; scores of another key are never used.
        folder: where the file `scores.db` is, or will be.
        chunk: pairs between two writes: what a kill can cost at most.
    """

    def __init__(self, backbone: Backbone, folder: Path, chunk: int = 128) -> None:
        self.backbone = backbone
        self.path = folder / "scores.db"
        self.chunk = chunk

    def score(
        self,
        prompts: Sequence[Prompt],
        continuations: Sequence[str],
        progress: Callable[[int], None] | None = None,
    ) -> list[Scored]:
        """Sum of log-probabilities (nats) of each continuation after its prompt, in order.

        Args:
            prompts: of text alone.
            continuations: one a prompt.
            progress: called with the number of pairs done since the last call.

        Raises:
            DataError: the file cannot be used.
            ValueError: a prompt has soft tokens or an adapter, which its messages do not identify.
        """
        pairs = {self._key(p, c): (p, c) for p, c in zip(prompts, continuations, strict=True)}
        keys = [self._key(p, c) for p, c in zip(prompts, continuations, strict=True)]
        uses = Counter(keys)
        with self._open() as db:
            known = {k: Scored(*row) for k in pairs if (row := db.execute(_READ, (k,)).fetchone())}
            if progress and known:
                progress(sum(uses[k] for k in known))
            # Like lengths together, longest first; the order of the rest is the same after a kill.
            missing = sorted(pairs.keys() - known.keys(), key=lambda k: (-_size(*pairs[k]), k))
            for start in range(0, len(missing), self.chunk):
                piece = missing[start : start + self.chunk]
                scored = self.backbone.score([pairs[k][0] for k in piece], [pairs[k][1] for k in piece])
                with db:
                    db.executemany(_WRITE, [(k, s.logprob, s.tokens) for k, s in zip(piece, scored, strict=True)])
                known |= dict(zip(piece, scored, strict=True))
                if progress:
                    progress(sum(uses[k] for k in piece))
        return [known[k] for k in keys]

    def _key(self, prompt: Prompt, continuation: str) -> bytes:
        if prompt.needs != Conditioning.TEXT:
            raise ValueError(f"a prompt that needs {prompt.needs} cannot be stored; only text is its own identity")
        whole = [self.backbone.key, [[m.role, m.content] for m in prompt.messages], continuation]
        return hashlib.blake2b(json.dumps(whole).encode(), digest_size=16).digest()

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with closing(sqlite3.connect(self.path, timeout=_WAIT)) as db:
                db.execute(_TABLE)
                yield db
        except sqlite3.DatabaseError as error:
            raise DataError(f"{self.path}: cannot be used to keep scores ({error}); delete it and run again") from None


def _size(prompt: Prompt, continuation: str) -> int:
    return sum(len(m.content) for m in prompt.messages) + len(continuation)
