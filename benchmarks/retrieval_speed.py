"""How close the rankers come to the bare work that they cannot do without.

    python benchmarks/retrieval_speed.py [--rounds 100]

Dense: `rank` of one request over 10,000 stored behaviours of 384 dimensions, whose state is prepared and whose query is
encoded, in units of one NumPy float32 matrix-vector product over the same vectors (noise). BM25: `prepare` and `rank`
of a new user with 1,000 behaviours of about 40 words, in units of bm25s doing the same by itself (tokenize, index,
retrieve); and `rank` alone, as for each request after the first. Texts are made up: words of a Zipf law. Both sides
are timed in turn in one process; what is reported is the ratio of medians, ours / bare.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bm25s
import numpy as np
from typing_extensions import override

from personaplug.backbones.echo import EchoBackbone
from personaplug.bench.claims import Claim, record
from personaplug.core import registry
from personaplug.core.files import write_json
from personaplug.core.types import Behavior, History, Profile, Request
from personaplug.encoders.cache.embeddings import VectorCache
from personaplug.encoders.hashing import HashingConfig, HashingEncoder

HERE = Path(__file__).parent


class Noise(HashingEncoder):
    """Vectors as full as a real encoder's, at no cost."""

    @override
    def encode(self, texts, role="history", progress=None):
        del role, progress
        vectors = np.random.default_rng(len(texts)).standard_normal((len(texts), self.width), np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100, help="of dense; BM25 takes a fifth of them")
    args = parser.parse_args()
    rows = [dense(args.rounds), *lexical(max(args.rounds // 5, 1))]
    claims = []
    for row in rows:
        goal = row.pop("goal")
        claims.append(Claim.now(row["id"], row.pop("words"), [row["ratio"]], goal))
        print(row)
    write_json(HERE / "retrieval_speed.json", rows)
    record(HERE, *claims)


def dense(rounds: int) -> dict[str, Any]:
    vectors = VectorCache(Noise(HashingConfig(width=384)))
    method = registry.build("method", "dense", backbone=EchoBackbone(), vectors=vectors)
    history = made_up(10_000, length=8)
    profile, request = Profile(history, method.prepare(history)), Request.of("ada", history.behaviors[42].output)
    matrix, query = vectors.embed(history, method.template), vectors.query([request.query])[0]
    row = compare(lambda: method.rank([request], [profile]), lambda: matrix @ query, rounds)
    words = "dense ranking of 10,000 stored behaviours of 384 dimensions, in units of one float32 matrix-vector product"
    return {"id": "retrieval-speed-dense", "words": words, "goal": "<= 10", **row}


def lexical(rounds: int) -> list[dict[str, Any]]:
    method = registry.build("method", "bm25", backbone=EchoBackbone())
    history = made_up(1_000, length=40)
    request = Request.of("ada", " ".join(history.behaviors[42].output.split()[:10]))
    texts = [b.output for b in history]
    state = method.prepare(history)

    def bare() -> Any:
        retriever = bm25s.BM25()
        retriever.index(bm25s.tokenize(texts, stopwords=[], show_progress=False), show_progress=False)
        asked = bm25s.tokenize([request.query], stopwords=[], show_progress=False)
        return retriever.retrieve(asked, k=method.config.k, show_progress=False)

    def cold() -> Any:
        return method.rank([request], [Profile(history, method.prepare(history))])

    def warm() -> Any:
        return method.rank([request], [Profile(history, state)])

    unit = "in units of bm25s doing it all (tokenize, index, retrieve)"
    size = {"state_bytes": sum(array.nbytes for array in state.values()), "text_bytes": sum(map(len, texts))}
    return [
        {"id": "retrieval-speed-bm25", "words": f"bm25 for a new user of 1,000 behaviours of 40 words, {unit}",
         "goal": "<= 2", **compare(cold, bare, rounds), **size},
        {"id": "retrieval-speed-bm25-warm", "words": f"bm25 for a user whose index is stored, {unit}",
         "goal": "reported", **compare(warm, bare, rounds), **size},
    ]  # fmt: skip


def made_up(n: int, length: int) -> History:
    """A history of n texts of about `length` words; the word of rank r comes up in proportion to 1/r."""
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = np.array(["".join(rng.choice(letters, rng.integers(2, 10))) for _ in range(20_000)])
    law = 1.0 / np.arange(1, len(words) + 1)
    texts = [" ".join(rng.choice(words, rng.poisson(length) + 1, p=law / law.sum())) for _ in range(n)]
    return History("ada", tuple(Behavior("ada", str(i), "", text, at=float(i)) for i, text in enumerate(texts)))


def compare(ours: Callable[[], Any], bare: Callable[[], Any], rounds: int) -> dict[str, Any]:
    """Medians in milliseconds and their ratio, measured in turn after a round that does not count."""
    times: dict[str, list[float]] = {"ours": [], "bare": []}
    gc.disable()
    for n in range(rounds + 1):
        for name, work in (("ours", ours), ("bare", bare)):
            start = time.perf_counter()
            work()
            if n:
                times[name].append(1e3 * (time.perf_counter() - start))
    gc.enable()
    medians = {name: statistics.median(each) for name, each in times.items()}
    return {
        "ratio": round(medians["ours"] / medians["bare"], 3),
        **{f"{name}_median_ms": round(median, 4) for name, median in medians.items()},
        "rounds": rounds,
    }


if __name__ == "__main__":
    main()
