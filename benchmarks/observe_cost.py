"""What a new behaviour costs until it takes effect, in units of encoding and appending it alone; writers at once.

    python benchmarks/observe_cost.py

Writes observe_cost.json and its claims. A user of 100 behaviours (real texts) says one thing more: `observe`, then what
the next request needs of it first (`profile`: the new texts encoded, the state prepared, both stored). Alone: the same
texts through the encoder, and the same behaviour added to another store of the same content. Both in one process, in
turns, each round in a random order; reported is the median of the rounds' ratios, (observe + profile) / (encode +
append). Then eight processes add to one user of one store at once, a behaviour a call, and what they said is stored is
counted. Needs the bundles smollm2-135m and minilm and the data set chitchat.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from personaplug import data
from personaplug.assembly import build_backbone, build_encoder, build_method
from personaplug.bench.claims import Claim, record
from personaplug.bench.results import write_json
from personaplug.personalizer import Personalizer
from personaplug.stores.sql import SqlConfig, SqlStore
from personaplug.types import Behavior
from personaplug.vectors import VectorCache, behavior_text

HERE = Path(__file__).parent
PAST = 100  # behaviours of the user before the first round
WRITERS, CALLS = 8, 50
WRITE = """
import sys
from personaplug.stores.sql import SqlConfig, SqlStore
from personaplug.types import Behavior
name, path, calls = sys.argv[1:]
store = SqlStore(SqlConfig(path))
print("ready", flush=True)
sys.stdin.readline()
said = sum(store.add([Behavior("all", f"{name}-{i}", "in", "some text")]) for i in range(int(calls)))
print(said, flush=True)
store.close()
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--folder", type=Path, help="where the stores are made and removed; by default a temporary one")
    parser.add_argument("--results", type=Path, default=HERE, help="folder of observe_cost.json and claims.json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        found: dict[str, Any] = {"behaviors": PAST, "rounds": args.rounds, "threads": torch.get_num_threads()}
        found |= observed(Path(folder), args.rounds)
        found["writers"] = written(Path(folder) / "writers.db")
    print(found)
    write_json(args.results / "observe_cost.json", found)
    ratio, lost = found["ratio"], found["writers"]["said"] - found["writers"]["stored"]
    record(
        args.results / "claims.json",
        Claim.now("observe-cost", "a new behaviour added and in effect for the next request, in units of encoding it "
                  "and of appending it measured alone", [ratio], "<= 1.2"),
        Claim.now("observe-writers", f"behaviours lost or doubled when {WRITERS} processes add {CALLS} each to one "
                  "user at once", [float(abs(lost))], "0", lost == 0),
    )  # fmt: skip


def behaviors(count: int) -> list[Behavior]:
    """So many behaviours of real users as one user's, no text twice."""
    kept: dict[str, Behavior] = {}
    with (data.path("chitchat") / "behaviors.jsonl").open(encoding="utf-8") as lines:
        for row in islice(map(json.loads, lines), 4 * count):
            b = Behavior("ada", row["id"], row["input"], row["output"], row["at"])
            if b.input and b.output:
                kept.setdefault(b.output, b)
    rng = np.random.default_rng(0)
    chosen = rng.permutation(len(kept))[:count]
    rows = list(kept.values())
    return [dataclasses.replace(rows[i], id=str(n), at=float(n)) for n, i in enumerate(chosen)]


def observed(folder: Path, rounds: int) -> dict[str, Any]:
    """Median milliseconds of each part, and of the rounds' ratios."""
    backbone = build_backbone({"name": "causal", "model": "smollm2-135m", "dtype": "float32", "device": "cpu"})
    encoder = build_encoder({"name": "sentence", "model": "minilm"}, backbone)
    store, other = (SqlStore(SqlConfig(str(folder / f"{name}.db"))) for name in ("whole", "alone"))
    method = build_method({"name": "plug"}, backbone, VectorCache(encoder, store), None)
    me = Personalizer(method, store)
    given = behaviors(PAST + rounds + 3)
    me.observe(*given[:PAST])
    other.add(given[:PAST])
    me.profile("ada")
    times: dict[str, list[float]] = {"observe": [], "profile": [], "encode": [], "append": []}
    rng = np.random.default_rng(0)
    for n, one in enumerate(given[PAST:]):
        texts = [behavior_text(one, template) for template in method.templates]
        steps: list[list[tuple[str, Callable[[], Any]]]] = [
            [("observe", lambda: me.observe(one)), ("profile", lambda: me.profile("ada"))],  # noqa: B023
            [("encode", lambda: encoder.encode(texts, "history")), ("append", lambda: other.add([one]))],  # noqa: B023
        ]
        for arm in rng.permutation(2):
            for name, step in steps[arm]:
                start = time.perf_counter()
                step()
                if n >= 3:  # the first rounds start what is started once
                    times[name].append(1e3 * (time.perf_counter() - start))
        assert me.profile("ada").history.behaviors[-1] == one
    parts = np.array([times[name] for name in times])  # [4, rounds]
    ratios = parts[:2].sum(0) / parts[2:].sum(0)
    me.close()
    other.close()
    medians = {f"{name}_ms": round(statistics.median(each), 3) for name, each in times.items()}
    return {"ratio": round(float(np.median(ratios)), 4), **medians, "texts_of_a_behavior": len(method.templates)}


def written(path: Path) -> dict[str, int]:
    """How many behaviours eight processes said they had added, and how many there are."""
    SqlStore(SqlConfig(str(path))).close()
    processes = [
        subprocess.Popen([sys.executable, "-c", WRITE, str(n), str(path), str(CALLS)], text=True,
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for n in range(WRITERS)
    ]  # fmt: skip
    for process in processes:
        assert process.stdout
        process.stdout.readline()
    for process in processes:  # all at once, when the last one is ready
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    said = sum(int(process.communicate()[0]) for process in processes)
    store = SqlStore(SqlConfig(str(path)))
    past = store.history("all")
    store.close()
    return {"processes": WRITERS, "said": said, "stored": len({b.id for b in past}), "version": past.version}


if __name__ == "__main__":
    main()
