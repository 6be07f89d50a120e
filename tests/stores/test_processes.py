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
from personaplug.types import Behavior
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
