"""Batches and kills on the real small model: same answers in a batch as alone, and nothing lost to kill -9.

    python benchmarks/robustness.py

Writes robustness.json and its claims. Everything runs in a temporary folder; needs the bundle smollm2-135m and the data
set chitchat (personaplug models pull, personaplug data pull).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from personaplug import data
from personaplug.bench.claims import Claim, record
from personaplug.core.files import write_json
from personaplug.core.types import Sampling
from personaplug.pipeline.build import RunConfig, build_components, build_store, build_task
from personaplug.pipeline.personalizer import Personalizer
from personaplug.stores import store_section

HERE = Path(__file__).parent
USERS = 10
CONFIG = f"""
[task]
name = "jsonl"
path = "chitchat"
group = "conversation"
max_users = {USERS}
max_behaviors = 40
requests_per_user = 8

[backbone]
name = "causal"
model = "smollm2-135m"

[encoder]
name = "hidden"

[method]
name = "plug"
pooling = "mean"

[training]
steps = 12
batch_size = 4
log_every = 1
save_every = 3
"""


def command(*words: str) -> list[str]:
    return [sys.executable, "-c", "from personaplug.cli import main; main()", *words]


def kill_when(ready, *words: str) -> bool:
    """Start a command, kill -9 it when `ready()`; whether it was still running then."""
    process = subprocess.Popen(command(*words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not ready():
        time.sleep(0.01)
    running = process.poll() is None
    if running:
        os.kill(process.pid, signal.SIGKILL)
    process.wait()
    return running


def ingest_survives(folder: Path) -> dict[str, object]:
    """Kill `ingest` five times at growing counts, finish it, and compare with what the file holds."""
    source, store = data.path("chitchat") / "behaviors.jsonl", folder / "ingest.db"
    lines = source.read_text("utf-8").splitlines()
    expected = {(row["user"], row["id"]): row["output"] for row in map(json.loads, lines)}

    def stored() -> int:
        if not store.exists():
            return 0
        opened = build_store(store_section(store))
        count = sum(u.behaviors for u in opened.users())
        opened.close()
        return count

    kills = 0
    for at in (1, 20_000, 40_000, 60_000, 80_000):
        kills += kill_when(lambda at=at: stored() >= at, "ingest", str(source), "--store", str(store))
    subprocess.run(command("ingest", str(source), "--store", str(store)), check=True, capture_output=True)
    opened = build_store(store_section(store))
    there = {(b.user, b.id): b.output for u in opened.users() for b in opened.history(u.user)}
    total = sum(u.behaviors for u in opened.users())
    opened.close()
    return {"kills": kills, "behaviors": total, "same": there == expected and total == len(expected)}


def train_survives(folder: Path) -> dict[str, object]:
    """Kill `train` after its first checkpoint, resume, and compare with an uninterrupted training."""
    config = folder / "run.toml"
    config.write_text(CONFIG)
    whole, cut = folder / "whole", folder / "cut"
    killed = kill_when(
        lambda: any(cut.glob("checkpoints/*/checkpoint-*/complete")), "train", str(config), "--out", str(cut)
    )
    for out in (cut, whole):
        subprocess.run(command("train", str(config), "--out", str(out)), check=True, capture_output=True)
    curves = [json.loads((out / "plug.training.json").read_text()) for out in (whole, cut)]
    weights = [(out / "plug" / "model.safetensors").read_bytes() for out in (whole, cut)]
    return {
        "killed": killed,
        "same_curve": curves[0]["curve"] == curves[1]["curve"],
        "same_weights": weights[0] == weights[1],
    }


def batch_equals_alone(dtype: str) -> int:
    """How many of 10 users get in one greedy batch the tokens that each gets alone."""
    task = build_task({"name": "jsonl", "path": "chitchat", "max_users": USERS, "max_behaviors": 40})
    run = RunConfig.parse(backbone={"name": "causal", "dtype": dtype}, encoder={"name": "hidden", "dtype": dtype})
    with tempfile.TemporaryDirectory() as folder:
        store = build_store(store_section(f"{folder}/users.db"))
        store.add(task.behaviors())
        method = build_components(run, task.info, store).method
        me = Personalizer(method, store, task.info)
        requests = [task.info.request(u.user, "What did you do last weekend?") for u in store.users()]
        sampling = Sampling(max_tokens=32)
        together = [c.tokens for c in me.answer_many(requests, sampling)]
        alone = [me.answer_many([r], sampling)[0].tokens for r in requests]
        me.close()
    return sum(a == b for a, b in zip(together, alone, strict=True))


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ingest, train = ingest_survives(folder), train_survives(folder)
    equal = {dtype: batch_equals_alone(dtype) for dtype in ("float32", "bfloat16")}
    figures = {"ingest": ingest, "train": train, "equal_of_10": equal}
    print(figures)
    write_json(HERE / "robustness.json", figures)
    whole = ingest["kills"] and ingest["same"]
    resumed = train["killed"] and train["same_curve"]
    record(
        HERE,
        Claim.now("kill-9-ingest", "kill -9 during ingest, five times, then run again: times something was lost or "
                  "doubled", [0.0 if whole else 1.0], "0", bool(whole)),
        Claim.now("kill-9-train", "kill -9 during train, run again: largest difference of the loss curve to an "
                  "uninterrupted training", [0.0 if resumed else 1.0], "0", bool(resumed)),
        Claim.now("batch-equals-alone", "of 10 users in one greedy batch of smollm2-135m in float32, how many get the "
                  "tokens that each gets alone", [float(equal["float32"])], "10", equal["float32"] == USERS),
        Claim.now("batch-equals-alone-bfloat16", "the same in bfloat16, where near-ties may fall either way",
                  [float(equal["bfloat16"])], "reported", True),
    )  # fmt: skip


if __name__ == "__main__":
    main()
