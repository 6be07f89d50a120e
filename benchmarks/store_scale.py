"""How the embedded store grows: reading one user, bytes and the rate of adding, from 1,000 users on.

    python benchmarks/store_scale.py
    python benchmarks/store_scale.py --users 1000 10000 100000 1000000    # about 20 GB of disk and 40 minutes

Writes store_scale.json, store_scale.png and its claims. Users, short texts and vectors (float16) are made up; each user
has 20 behaviours, and comes with all of them (`--scattered`: with one after another, all users taking turns, so that no
two of a user's vectors stand side by side; what is written is then the section of that name alone). At each size, in
turns with a store of 1,000 users, so that what else the machine does meets both:

- one random user's vectors are read, a user never read before, by a process that has read others, with both files
  dropped from the operating system's cache before each read (from disk) and without that (as the machine leaves them);
- a text that nobody wrote is looked up by its digest;
- 1,000 users more are added, behaviours and vectors durable in batches of 2,000, in turns with the first 1,000 of a
  fresh store.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from personaplug.bench.claims import Claim, record
from personaplug.core.files import write_json
from personaplug.core.types import Behavior
from personaplug.stores.base import VectorRow
from personaplug.stores.sql import SqlConfig, SqlStore

HERE = Path(__file__).parent
BEHAVIORS = 20
BATCH = 2_000  # behaviours to a transaction, as `personaplug ingest` has it
FIRST = 1_000  # users of the store that the others are compared with
ENCODER = "sentence/minilm@0123456789abcdef"
TEXTS = ("How was it?", "Good fun, a bit long though")

RNG = np.random.default_rng(0)


class Made:
    """A store in a folder with made-up users, the seconds that adding took, and who was read already."""

    def __init__(self, path: Path, width: int, scattered: bool) -> None:
        self.path, self.width, self.scattered = path, width, scattered
        self.users = 0
        self.unread: Iterator[int] = iter(())
        self.open()

    def open(self) -> None:
        """Open the store, for the first time or again."""
        self.store = SqlStore(SqlConfig(str(self.path)))

    def grow(self, more: int) -> float:
        """Add so many users; returns the seconds in the store alone."""
        seconds = 0.0
        for batch in self._batches(range(self.users, self.users + more)):
            size = len(batch)
            numbers = RNG.integers(0, 2**16, (size, self.width), np.uint16) & 0xBFFF  # no exponent of infinity
            vectors = numbers.view(np.float16)
            digests = RNG.bytes(16 * size).hex()
            rows = [VectorRow(b.user, b.id, digests[32 * i : 32 * i + 32], vectors[i]) for i, b in enumerate(batch)]
            start = time.perf_counter()
            self.store.add(batch)
            self.store.put_vectors(ENCODER, rows)
            seconds += time.perf_counter() - start
        self.users += more
        return seconds

    def _batches(self, users: range) -> Iterator[list[Behavior]]:
        if self.scattered:
            pairs = [(user, n) for n in range(BEHAVIORS) for user in users]
        else:
            pairs = [(user, n) for user in users for n in range(BEHAVIORS)]
        for start in range(0, len(pairs), BATCH):
            yield [Behavior(name(u), f"{n}", *TEXTS, at=1.7e9 + n) for u, n in pairs[start : start + BATCH]]

    def settle(self) -> int:
        """Bring all that was written into the one file; returns its bytes."""
        self.store.close()
        self.open()
        self.unread = iter(RNG.permutation(self.users).tolist())
        return self.path.stat().st_size

    def drop_from_memory(self) -> None:
        """Make the operating system forget the file's pages."""
        with self.path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def read(self) -> float:
        """Seconds to read one more random user's vectors."""
        user = name(next(self.unread))
        start = time.perf_counter()
        vectors = self.store.vectors(user, ENCODER)
        seconds = time.perf_counter() - start
        assert len(vectors) == BEHAVIORS
        return seconds

    def find(self) -> float:
        """Seconds to learn that nobody wrote a text."""
        digest = RNG.bytes(16).hex()
        start = time.perf_counter()
        rows = self.store.find_vectors(ENCODER, [digest])
        seconds = time.perf_counter() - start
        assert not rows
        return seconds

    def list_users(self) -> float:
        """Seconds to list all users."""
        start = time.perf_counter()
        assert len(self.store.users()) == self.users
        return time.perf_counter() - start


def name(user: int) -> str:
    """In no order: names that rise would be easier on their index than real ones."""
    return hashlib.blake2b(str(user).encode(), digest_size=6).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, nargs="+", default=[1_000, 10_000, 100_000], help="sizes, rising")
    parser.add_argument("--width", type=int, default=384, help="numbers in a vector")
    parser.add_argument("--rounds", type=int, default=5, help="of adding 1,000 users; 50 times as many of reading")
    parser.add_argument("--scattered", action="store_true", help="users take turns, one behaviour at a time")
    parser.add_argument("--folder", type=Path, help="where the stores are made and removed; by default a temporary one")
    parser.add_argument("--results", type=Path, default=HERE, help="folder of store_scale.json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        sizes = list(measured(Path(folder), args))
    figures = {
        "behaviors_a_user": BEHAVIORS,
        "width": args.width,
        "text_bytes_a_behavior": sum(map(len, TEXTS)),
        "sqlite": sqlite3.sqlite_version,
        "sizes": sizes,
    }
    path = args.results / "store_scale.json"
    before = json.loads(path.read_text("utf-8")) if path.exists() else {}
    if args.scattered:
        write_json(path, {**before, "scattered": figures})
        return
    write_json(path, {**figures, **({"scattered": before["scattered"]} if "scattered" in before else {})})
    draw(sizes, args.results / "store_scale.png")
    record(args.results, *claims(sizes))


def measured(folder: Path, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """What was measured at each size."""
    small = Made(folder / "small.db", args.width, args.scattered)
    small.grow(FIRST)
    large = Made(folder / "large.db", args.width, args.scattered)
    for size in args.users:
        seconds = large.grow(size - large.users)
        own = size * BEHAVIORS * args.width * 2
        figures: dict[str, Any] = {"users": size, "file_bytes": large.settle(), "vector_bytes": own}
        figures["bytes_ratio"] = round(figures["file_bytes"] / own, 4)
        small.settle()
        for _ in range(20 * args.rounds):  # a store that has been at work for a while, whose next users are cold
            for made in (small, large):
                made.read()
        figures["read_from_disk"] = compared(small.read, large.read, 10 * args.rounds, (small, large))
        figures["read"] = compared(small.read, large.read, 50 * args.rounds)
        figures["find"] = compared(small.find, large.find, 50 * args.rounds)
        figures["list_users_seconds"] = round(large.list_users(), 3)
        figures["behaviors_a_second"] = adding(folder, large, args.rounds)
        figures["behaviors_a_second"]["all_the_way"] = round((size - found_before(size, args)) * BEHAVIORS / seconds)
        print(figures, flush=True)
        yield figures
    for made in (small, large):
        made.store.close()


def found_before(size: int, args: argparse.Namespace) -> int:
    """The users that were there already when growing to this size began."""
    smaller = [s for s in args.users if s < size]
    return max(smaller) + args.rounds * FIRST if smaller else 0


def compared(
    small: Callable[[], float], large: Callable[[], float], rounds: int, drop: Sequence[Made] = ()
) -> dict[str, float]:
    """Median milliseconds of both in turns, and the ratio."""
    times: list[list[float]] = [[], []]
    for _ in range(rounds):
        for made in drop:
            made.drop_from_memory()
        for i in RNG.permutation(2):
            times[i].append(1e3 * (small, large)[i]())
    first, last = map(statistics.median, times)
    return {"first_ms": round(first, 4), "ms": round(last, 4), "ratio": round(last / first, 4)}


def adding(folder: Path, large: Made, rounds: int) -> dict[str, float]:
    """Median rates of 1,000 users more and of the first 1,000 of a fresh store, in turns, and the ratio."""
    rates: list[list[float]] = [[], []]
    for _ in range(rounds):
        fresh = Made(folder / "fresh.db", large.width, large.scattered)
        for i in RNG.permutation(2):
            rates[i].append(FIRST * BEHAVIORS / (fresh, large)[i].grow(FIRST))
        fresh.store.close()
        fresh.path.unlink()
    first, last = map(statistics.median, rates)
    return {"first": round(first), "rate": round(last), "ratio": round(last / first, 4)}


def draw(sizes: Sequence[dict[str, Any]], path: Path) -> None:
    """Three curves over the number of users, each with its goal."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import EngFormatter

    users = [s["users"] for s in sizes]
    panels = [
        ("one user's vectors read from disk,\nin units of a store of 1,000 users",
         [s["read_from_disk"]["ratio"] for s in sizes], 1.5, "at most"),
        ("bytes of the file,\nin units of the vectors' own", [s["bytes_ratio"] for s in sizes], 1.3, "at most"),
        ("behaviours added a second,\nin units of a fresh store", [s["behaviors_a_second"]["ratio"] for s in sizes],
         0.8, "at least"),
    ]  # fmt: skip
    figure, axes = plt.subplots(1, 3, figsize=(10.8, 3.2), layout="constrained")
    for axis, (title, values, goal, words) in zip(axes, panels, strict=True):
        axis.plot(users, values, marker="o", linewidth=2, color="#2f6fb2")
        axis.axhline(goal, color="#888888", linewidth=1, linestyle=(0, (3, 3)))
        axis.annotate(f"{words} {goal}", (users[0], goal), (0, 4), textcoords="offset points", color="#666666")
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter(EngFormatter(sep=""))
        axis.set_ylim(0, 1.25 * max(*values, goal))
        axis.set_title(title, fontsize=10, loc="left")
        axis.set_xlabel("users")
        axis.grid(axis="y", linewidth=0.5, alpha=0.5)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plt.close(figure)


def claims(sizes: Sequence[dict[str, Any]]) -> list[Claim]:
    largest = sizes[-1]
    users = f"{largest['users']:,} users of {BEHAVIORS} behaviours"
    read, held = largest["read_from_disk"]["ratio"], largest["read"]["ratio"]
    size, rates = largest["bytes_ratio"], [s["behaviors_a_second"]["ratio"] for s in sizes]
    flat = min(rates) / max(1.0, *rates)
    return [
        Claim.now("store-scale-read", f"reading one user's vectors from disk among {users}, in units of among 1,000",
                  [read], "<= 1.5"),
        Claim.now("store-scale-read-cached", f"the same as the machine leaves the files in memory, {users}", [held],
                  "reported"),
        Claim.now("store-scale-bytes", f"bytes of the store's file with {users} and short texts, in units of the "
                  "vectors' own bytes", [size], "<= 1.3"),
        Claim.now("store-scale-ingest", f"behaviours added a second, slowest size in units of the fastest, to {users}",
                  [flat], ">= 0.8"),
        Claim.now("store-scale-find", f"milliseconds to learn that a text was written by none of {users}",
                  [largest["find"]["ms"]], "reported"),
    ]  # fmt: skip


if __name__ == "__main__":
    main()
