"""How a server holds out: many clients for minutes, what goes wrong, how memory grows, what it adds to the model.

    python benchmarks/serving.py [--minutes 5] [--clients 32] [--users 200] [--threads N] [--results benchmarks]

Starts `personaplug serve` with smollm2-135m and the default plug (untrained: the arithmetic is the same), with real
messages of chitchat as histories, and Locust with the clients of benchmarks/clients.py on the same machine. At the end
the process is killed (-9) and started again. The model takes all processors but one, as docs/server.md advises: with
all of them it writes faster, and whatever else a request needs waits until the model is interrupted.

    errors     requests that failed with anything but 429 and 503
    memory     resident memory in the last minute over that in the second one (parts of the time where it is short)
    overhead   99th percentile, from the second minute on, of the seconds that a chat takes beside the model: from its
               arrival until it stands in the model's queue (key, limits), as long as its turn is put off because its
               persona is not made yet (history, encoding, pooling), and from its last token until the response is made.
               By the clock, so waiting for a processor counts. What the persona takes, mostly while others are
               answered, is under stages: profile and personalize.
    lost       acknowledged behaviours that are not there after the kill
    start      seconds from the command to the first answer, models cached
    tokens     tokens a second of all clients
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from personaplug import data
from personaplug.bench.claims import Claim, record
from personaplug.core.files import write_json
from personaplug.core.types import Behavior
from personaplug.pipeline.build import RunConfig, build_components, build_store, load
from personaplug.pipeline.personalizer import Personalizer
from personaplug.stores import store_section
from personaplug.tasks.base import TaskInfo

HERE = Path(__file__).parent
MODEL = "smollm2-135m:plug"
FINE = {"200", "429", "503"}


@dataclass(frozen=True)
class Seen:
    """What the clients saw.

    Attributes:
        began: seconds since the epoch.
        notes: see benchmarks/clients.py.
        memory: (seconds since the epoch, bytes).
    """

    began: float
    notes: list[dict[str, Any]]
    memory: list[tuple[float, int]]

    @property
    def statuses(self) -> Counter[str]:
        """How often each was met with."""
        return Counter(str(note["status"]) for note in self.notes)

    @property
    def errors(self) -> int:
        """Requests that failed with anything but being asked to come later."""
        return sum(n for status, n in self.statuses.items() if status not in FINE)

    @property
    def acknowledged(self) -> list[tuple[str, str]]:
        """User and id of what was added."""
        return [tuple(note["added"]) for note in self.notes if "added" in note]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--threads", type=int, default=max(1, (os.cpu_count() or 2) - 1), help="of the model")
    parser.add_argument("--no-openvino", action="store_true", help="run the encoder in torch")
    parser.add_argument("--results", type=Path, default=HERE, help="folder of serving.json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        row = measure(Path(folder), args)
    print(json.dumps(row, indent=2))
    words = (
        f"{args.clients} clients for {args.minutes:g} minutes, smollm2-135m with the default plug on {row['cpus']} CPUs"
    )
    record(
        args.results,
        Claim.now("serving-errors", f"failed requests but 429 and 503, {words}", [row["errors"]], "<= 0"),
        Claim.now("serving-memory", f"resident memory, last minute over second, {words}", [row["memory"]], "<= 1.03"),
        Claim.now(
            "serving-overhead", f"p99 of a chat's seconds beside the model, {words}", [row["overhead"]], "<= 0.02"
        ),
        Claim.now("serving-lost", "acknowledged behaviours lost by kill -9", [row["lost"]], "<= 0"),
        Claim.now("serving-start", "seconds from the command to the first answer", [row["start"]], "<= 15"),
        Claim.now("serving-tokens", f"tokens a second, {words}", [row["tokens"]], "reported"),
    )
    write_json(args.results / "serving.json", row)


def measure(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """All of it, in a folder of its own."""
    minutes, clients, users = args.minutes, args.clients, args.users
    options = ["--no-openvino"] if args.no_openvino else []
    write_json(folder / "messages.json", prepare(folder, users))
    started = time.perf_counter()
    with serving(folder, options, args.threads) as (process, url):
        first_answer(url)
        start = time.perf_counter() - started
        seen = run(url, process.pid, folder, args)
        if seen.errors:
            print((folder / "log").read_text()[-10_000:], file=sys.stderr)
        process.kill()
        process.wait()
    with serving(folder, options, args.threads) as (_, url):
        lost = missing(url, seen.acknowledged)
    part = min(60.0, 60 * minutes / 5)
    chats = [n["timings"] for n in seen.notes if n.get("timings") and n["at"] - seen.began >= part]
    beside = [chat["overhead"] + chat["reply"] for chat in chats]
    end = seen.memory[-1][0]
    minutely: dict[int, list[int]] = {}
    for at, size in seen.memory:
        minutely.setdefault(int((at - seen.began) / part), []).append(size)
    second = statistics.mean(b for at, b in seen.memory if part <= at - seen.began < 2 * part)
    last = statistics.mean(b for at, b in seen.memory if at >= end - part)
    stages = {name: quantiles([chat[name] for chat in chats]) for name in chats[0]}
    return {
        "minutes": minutes,
        "clients": clients,
        "users": users,
        "openvino": not args.no_openvino and importlib.util.find_spec("openvino") is not None,
        "threads": args.threads,
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
        "statuses": dict(seen.statuses),
        "errors": seen.errors,
        "requests_a_second": round(sum(seen.statuses.values()) / (60 * minutes), 2),
        "memory": round(last / second, 4),
        "memory_mb": [round(statistics.mean(b) / 2**20) for b in minutely.values()],
        "overhead": quantiles(beside)["0.99"],
        "overhead_quantiles": quantiles(beside),
        "stages": stages,
        "tokens": round(sum(n.get("tokens", 0) for n in seen.notes) / (60 * minutes), 1),
        "acknowledged": len(seen.acknowledged),
        "lost": lost,
        "start": round(start, 2),
    }


def quantiles(seconds: list[float]) -> dict[str, float]:
    return {str(q): round(float(np.quantile(seconds, q)), 5) for q in (0.5, 0.9, 0.95, 0.99)}


def prepare(folder: Path, users: int) -> list[str]:
    """An artifact and a store of users; returns messages that nobody has sent yet."""
    with (data.path("chitchat") / "behaviors.jsonl").open(encoding="utf-8") as lines:
        messages = list(dict.fromkeys(json.loads(line)["output"] for line in islice(lines, 60_000)))
    run = RunConfig.parse(
        backbone={"name": "causal", "model": "smollm2-135m"}, encoder={"name": "sentence", "model": "minilm"}
    )
    build_components(run, TaskInfo("chat", "text", history_text="{output}"), None).save(folder / "plug", {}, {})
    store = build_store(store_section(folder / "users.db"))
    store.add(
        Behavior(f"user{u}", str(i), messages[50 * u + i], messages[50 * u + i + 1], at=float(i))
        for u in range(users)
        for i in range(50)
    )
    Personalizer(load(folder / "plug", store).method, store).refresh()  # users have been here before
    store.close()
    return messages[50 * users :]


@contextmanager
def serving(folder: Path, options: list[str], threads: int) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The command on a free port, and its address."""
    command = [sys.executable, "-m", "personaplug", "serve", str(folder / "plug"), "--store", str(folder / "users.db")]
    log = folder / "log"
    with log.open("wb") as said:
        process = subprocess.Popen(
            [*command, "--port", "0", "--rate", "0", "--user-rate", "0", *options],
            stderr=said,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        )
    try:
        while not (match := re.search(r"http://[0-9.]+:\d+", log.read_text())):
            if process.poll() is not None:
                raise SystemExit(log.read_text())
            time.sleep(0.02)
        yield process, match[0]
    finally:
        process.kill()
        process.wait()


def first_answer(url: str) -> None:
    ask = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "user": "user0", "max_tokens": 1}
    httpx.post(f"{url}/v1/chat/completions", json=ask, timeout=60).raise_for_status()


def run(url: str, pid: int, folder: Path, args: argparse.Namespace) -> Seen:
    """Have Locust's clients ask until the time is up; people do not all come at once."""
    command = [sys.executable, "-m", "locust", "--headless", "-f", str(HERE / "clients.py"), "--host", url,
               "-u", str(args.clients), "-r", str(args.clients / 10), "-t", f"{60 * args.minutes:.0f}s",
               "--stop-timeout", "60", "--only-summary", "--messages", str(folder / "messages.json"),
               "--notes", str(folder / "notes.jsonl"), "--people", str(args.users), "--model", MODEL]  # fmt: skip
    memory: list[tuple[float, int]] = []
    began, over = time.time(), threading.Event()

    def watch() -> None:
        while not over.wait(0.5):
            match = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
            assert match
            memory.append((time.time(), 1024 * int(match[1])))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        subprocess.run(command, check=False, stdout=sys.stderr)
    finally:
        over.set()
        watching.join()
    return Seen(began, [json.loads(line) for line in (folder / "notes.jsonl").read_text().splitlines()], memory)


def missing(url: str, acknowledged: list[tuple[str, str]]) -> int:
    """How many of the acknowledged behaviours are not there."""
    stored: dict[str, set[str]] = {}
    with httpx.Client(base_url=url, timeout=60) as web:
        for user in {user for user, _ in acknowledged}:
            page = web.get(f"/v1/users/{user}/history", params={"limit": 1000}).json()
            stored[user] = {b["id"] for b in page["data"]}
    return sum(id_ not in stored[user] for user, id_ in acknowledged)


if __name__ == "__main__":
    main()
