"""Several processes at one file, and processes that die at any moment: nothing lost, nothing doubled."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from personaplug.stores.sql import SqlConfig, SqlStore

HEAD = """
import sys
from personaplug.stores.sql import SqlConfig, SqlStore
from personaplug.core.types import Behavior
name, path = sys.argv[1:]
"""
# Waits for a line, so that all processes open the same fresh file at the same moment.
ADD_AT_ONCE = (
    HEAD
    + """
print("ready", flush=True)
sys.stdin.readline()
store = SqlStore(SqlConfig(path))
for i in range(6):
    own = [Behavior("all", f"{name}-{i}-{j}", "in", "out") for j in range(3)]
    assert store.add([*own, Behavior("all", f"shared-{i}", "in", "out")]) in (3, 4)
    assert {b.id for b in own} <= {b.id for b in store.history("all")}
store.close()
"""
)
# Says each call that has returned, until it is killed.
ADD_AND_SAY = (
    HEAD
    + """
store = SqlStore(SqlConfig(path))
for i in range(100_000):
    store.add(Behavior("ann", f"{name}-{i}-{j}", "in", "some text " * 100) for j in range(3))
    print(i, flush=True)
"""
)


# Leaves without closing anything, as a killed process does.
PUT_AND_DIE = (
    HEAD
    + """
import os
import numpy as np
from personaplug.stores.base import VectorRow
store = SqlStore(SqlConfig(path))
store.add([Behavior("ann", str(i), "in", "out") for i in range(3)])
store.put_vectors("key", [VectorRow("ann", str(i), f"text {i}", np.ones(4)) for i in range(3)])
store.put_state("ann", "plug", 1, {"x": np.ones(4)})
os._exit(9)
"""
)


def start(code: str, name: str, path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, name, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.slow
def test_eight_processes_that_open_a_fresh_file_and_add_at_once_lose_and_double_nothing(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    processes = [start(ADD_AT_ONCE, str(n), path) for n in range(8)]
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=120)
        assert process.returncode == 0
    store = SqlStore(SqlConfig(str(path)))
    ids = Counter(b.id for b in store.history("all"))
    store.close()
    expected = {f"{n}-{i}-{j}" for n in range(8) for i in range(6) for j in range(3)}
    assert set(ids) == expected | {f"shared-{i}" for i in range(6)}
    assert set(ids.values()) == {1}


def test_vectors_and_states_of_a_killed_process_are_there(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    process = start(PUT_AND_DIE, "", path)
    process.communicate(timeout=60)
    assert process.returncode == 9
    store = SqlStore(SqlConfig(str(path)))
    assert set(store.vectors("ann", "key")) == {"text 0", "text 1", "text 2"}
    assert store.state("ann", "plug") is not None
    store.close()


@pytest.mark.parametrize("calls", [1, 7, 40])
def test_what_a_killed_process_had_added_is_there_once_and_whole(tmp_path: Path, calls: int) -> None:
    path = tmp_path / "store.db"
    process = start(ADD_AND_SAY, "first", path)
    assert process.stdout
    for _ in range(calls):
        process.stdout.readline()
    process.kill()
    said = calls + len(process.communicate()[0].splitlines())
    store = SqlStore(SqlConfig(str(path)))
    ids = [b.id for b in store.history("ann")]
    # The call in flight when the process died may have reached the disk too, but then all of it.
    assert ids in ([f"first-{i}-{j}" for i in range(n) for j in range(3)] for n in (said, said + 1))
    assert store.history("ann").version == len(ids) // 3
    store.close()
