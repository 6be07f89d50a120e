"""After `forget` and `remove`, no byte of what was deleted is in any file of the store."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from personaplug.core.errors import DataError
from personaplug.core.types import Behavior
from personaplug.stores.base import VectorRow
from personaplug.stores.database import connection as database
from personaplug.stores.sql import SqlConfig, SqlStore

OPEN_AND_WAIT = """
import sys
from personaplug.stores.sql import SqlConfig, SqlStore
store = SqlStore(SqlConfig(sys.argv[1]))
print(len(store.history("victim")), flush=True)
sys.stdin.readline()
print([u.user for u in store.users()], flush=True)
store.close()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


def fill(store: SqlStore, user: str, seed: int, n: int = 60) -> None:
    """Behaviours, vectors and a state that all hold bytes found nowhere else: `<user>`."""
    rng = random.Random(seed)
    sizes = [rng.choice([1, 3, 20, 90, 2000]) for _ in range(n)]  # within a page and over several
    mark = f"<{user}>"
    store.add([Behavior(user, f"{mark}{i}", mark * s, f"é{mark}", fields={"t": mark}) for i, s in enumerate(sizes)])
    vector = np.frombuffer(mark.encode().ljust(64, b"0"), np.float16).astype(np.float32)
    store.put_vectors("key", [VectorRow(user, f"{mark}{i}", f"{mark}{i}", vector) for i in range(n)])
    store.put_state(user, "plug", 1, {"x": np.frombuffer(mark.encode() * 50, np.uint8)})


def found(path: Path, text: str) -> list[str]:
    """The store's files that hold the text."""
    return [p.name for p in path.parent.iterdir() if text.encode() in p.read_bytes()]


def test_forget_leaves_no_byte_in_any_file(path: Path) -> None:
    store = SqlStore(SqlConfig(str(path)))
    for n, user in enumerate(("before", "victim", "after")):
        fill(store, user, n)
    assert found(path, "victim")
    store.forget("victim")
    assert found(path, "victim") == []
    assert found(path, "<before>")
    assert len(store.history("after")) == 60
    store.close()
    assert found(path, "victim") == []


def test_an_edit_leaves_no_byte_of_the_old_text(path: Path) -> None:
    store = SqlStore(SqlConfig(str(path)))
    store.add([Behavior("ann", "1", "in", "<old>" * 900), Behavior("ann", "2", "in", "<kept>")])
    store.replace(Behavior("ann", "1", "in", "<new>"))
    assert found(path, "<old>") == []
    assert found(path, "<new>")
    store.close()


def test_no_order_of_adding_removing_and_forgetting_leaves_a_byte(path: Path) -> None:
    # Deleting a row moves its neighbours, and the gaps keep copies: secure_delete alone leaves bytes in this test.
    store = SqlStore(SqlConfig(str(path)))
    rng = random.Random(0)
    users = [f"user{n:02}" for n in range(12)]
    for step in range(6):
        marks = [(user, f"<{user}.{step}.{rng.random()}>") for _ in range(10) for user in users]
        rng.shuffle(marks)
        store.add(Behavior(user, mark, mark * rng.choice([1, 1, 4, 30, 300]), "x") for user, mark in marks)
        for user in rng.sample(users, 4):
            some = [b.id for b in store.history(user) if rng.random() < 0.5]
            store.remove(user, some)
            assert [mark for mark in some if found(path, mark)] == []
    for user in users:
        store.forget(user)
        assert found(path, user) == []
    store.close()


def test_an_overwritten_behaviour_and_its_vectors_and_states_leave_no_byte(path: Path) -> None:
    store = SqlStore(SqlConfig(str(path)))
    store.add([Behavior("ann", "1", "in", "<regretted>")])
    store.put_state("ann", "plug", 1, {"x": np.frombuffer(b"<regretted>", np.uint8)})
    store.remove("ann", ["1"])
    store.add([Behavior("ann", "1", "in", "<better>")])
    assert found(path, "regretted") == []
    store.forget("ann")
    assert found(path, "better") == []
    store.close()


def test_forget_leaves_no_byte_while_another_process_has_the_store_open(path: Path) -> None:
    store = SqlStore(SqlConfig(str(path)))
    fill(store, "victim", 0)
    other = subprocess.Popen(
        [sys.executable, "-c", OPEN_AND_WAIT, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout
    assert other.stdout.readline() == "60\n"
    store.forget("victim")
    assert found(path, "victim") == []
    assert other.communicate("\n", timeout=60)[0] == "[]\n"
    assert found(path, "victim") == []
    store.close()


def test_forget_waits_for_a_reader_to_end(path: Path) -> None:
    store = SqlStore(SqlConfig(str(path)))
    fill(store, "victim", 0)
    reader = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM behaviors").fetchone() == (60,)
    threading.Timer(0.4, lambda: reader.execute("COMMIT")).start()
    began = time.monotonic()
    store.forget("victim")
    assert time.monotonic() - began > 0.3
    assert found(path, "victim") == []
    reader.close()
    store.close()


def test_a_reader_that_does_not_end_is_an_error_and_the_next_opening_ends_the_erasure(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "WAIT", 0.3)
    store = SqlStore(SqlConfig(str(path)))
    fill(store, "victim", 0)
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM behaviors").fetchone()
    with pytest.raises(DataError, match=r"deleted, but a process has been reading.*open the store again"):
        store.forget("victim")
    assert store.users() == []
    reader.close()
    second = SqlStore(SqlConfig(str(path)))
    assert found(path, "victim") == []
    assert second.metadata(database.ERASING) is None
    second.close()
    store.close()


def test_an_erasure_that_a_kill_cut_short_is_ended_by_the_next_opening(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SqlStore(SqlConfig(str(path)))
    fill(store, "victim", 0)
    fill(store, "other", 1)
    monkeypatch.setattr(database.Database, "erase", lambda *_: None)
    store.forget("victim")
    assert found(path, "victim")
    monkeypatch.undo()
    second = SqlStore(SqlConfig(str(path)))
    assert found(path, "victim") == []
    assert len(second.history("other")) == 60
    second.close()
    store.close()
