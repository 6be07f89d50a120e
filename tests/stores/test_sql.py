"""What a user sees when the file is not what it should be, and what SQLite is told."""

from __future__ import annotations

import sqlite3
import threading
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from personaplug.core.errors import ConfigError, DataError, PersonaplugError
from personaplug.core.types import Behavior
from personaplug.stores import sql
from personaplug.stores.base import VectorRow
from personaplug.stores.database.connection import Database
from personaplug.stores.database.rows import pack_digest, pack_state, unpack_digest, unpack_state
from personaplug.stores.sql import SqlConfig, SqlStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


def opening(url: object) -> PersonaplugError:
    with pytest.raises(PersonaplugError) as error:
        SqlStore(SqlConfig(str(url)))
    assert "\n" not in str(error.value)
    return error.value


def change(path: Path, sql: str) -> None:
    raw = sqlite3.connect(path)
    raw.execute(sql)
    raw.commit()
    raw.close()


def test_a_file_that_is_not_sqlite_is_refused_and_kept(path: Path) -> None:
    path.write_bytes(b"a diary, not a database\n" * 500)
    assert "not a database; name" in str(opening(path))
    assert path.read_bytes() == b"a diary, not a database\n" * 500


def test_a_sqlite_file_of_another_program_is_refused_and_kept(path: Path) -> None:
    change(path, "CREATE TABLE bookmarks (url)")
    before = path.read_bytes()
    assert "has a table 'bookmarks'" in str(opening(path))
    assert path.read_bytes() == before


def test_a_folder_is_refused_with_the_name_of_a_file_in_it(tmp_path: Path) -> None:
    assert str(tmp_path / "personaplug.db") in str(opening(tmp_path))


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    assert "its folder does not exist" in str(opening(tmp_path / "no" / "store.db"))


@pytest.mark.parametrize("url", ["", ":memory:", "sqlite://", "mysql://localhost/x", "://", "x:y://z"])
def test_urls_that_cannot_hold_a_store_are_configuration_errors(url: str) -> None:
    assert isinstance(opening(url), ConfigError)


def test_a_server_that_is_not_there_is_one_line_without_the_password() -> None:
    pytest.importorskip("psycopg")
    message = str(opening("postgresql://me:secret@127.0.0.1:1/x"))
    assert "127.0.0.1" in message
    assert "secret" not in message


def test_a_damaged_file_is_an_error_that_names_it(path: Path) -> None:
    store = SqlStore(SqlConfig(str(path)))
    store.add([Behavior("ann", str(i), "in", "out" * 50) for i in range(500)])
    store.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\xa5" * (len(whole) - 4096))
    with pytest.raises(DataError, match=r"store\.db"):
        SqlStore(SqlConfig(str(path))).history("ann")


def test_damaged_states_and_vectors_are_errors(path: Path) -> None:
    store = SqlStore(SqlConfig(str(path)))
    store.add([Behavior("ann", "1", "in", "out")])
    store.put_state("ann", "plug", 1, {"x": np.ones(3)})
    store.put_vectors("key", [VectorRow("ann", "1", "text", np.ones(3, np.float32))])
    change(path, "UPDATE states SET arrays = substr(arrays, 1, 100)")
    change(path, "UPDATE vectors SET vector = substr(vector, 1, 3)")
    with pytest.raises(DataError, match="state of method 'plug' for user 'ann' is damaged"):
        store.state("ann", "plug")
    with pytest.raises(DataError, match="vector 'text' is damaged"):
        store.vectors("ann", "key")
    with pytest.raises(DataError, match="vector 'text' is damaged"):
        store.find_vectors("key", ["text"])
    store.close()


@given(st.data())
def test_no_changed_byte_of_a_state_goes_unseen(data: st.DataObject) -> None:
    blob = bytearray(pack_state({"keys": np.arange(12, dtype=np.float16).reshape(3, 4), "n": np.array(3)}))
    assert unpack_state(bytes(blob)) is not None
    blob[data.draw(st.integers(0, len(blob) - 1))] ^= data.draw(st.integers(1, 255))
    assert unpack_state(bytes(blob)) is None
    assert unpack_state(bytes(blob[: data.draw(st.integers(0, len(blob)))])) is None


def test_writes_are_durable_erased_and_referentially_sound(path: Path) -> None:
    database = Database(str(path))
    with database.read() as connection:
        told = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "secure_delete", "foreign_keys", "busy_timeout")
        }
    database.close()
    full = 2
    assert told == {
        "journal_mode": "wal",
        "synchronous": full,
        "secure_delete": 1,
        "foreign_keys": 1,
        "busy_timeout": 60_000,
    }


def test_what_users_gave_waits_for_the_disk_and_what_can_be_made_again_does_not(path: Path) -> None:
    database = Database(str(path))
    modes = []
    for durable in (True, False, True):
        with database.write(durable=durable) as connection:
            modes.append(connection.exec_driver_sql("PRAGMA synchronous").scalar())
    database.close()
    normal, full = 1, 2  # NORMAL in WAL mode: never damaged, but the newest transactions may be lost to a power cut
    assert modes == [full, normal, full]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.none() | st.floats(-9, 9)), max_size=8))
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_counts_and_dates_of_a_user_are_those_of_the_history(path: Path, steps: list[Any]) -> None:
    store, user = SqlStore(SqlConfig(str(path))), str(uuid.uuid4())  # the examples share a store
    kept: dict[str, float | None] = {"first": 0.0}
    store.add([Behavior(user, "first", "in", "out", 0.0)])
    for add, n, at in steps:
        if add and str(n) not in kept:
            kept[str(n)] = at
            store.add([Behavior(user, str(n), "in", "out", at)])
        elif not add:
            kept.pop(str(n), None)
            store.remove(user, [str(n), "first"])
            kept.pop("first", None)
    [info] = [u for u in store.users() if u.user == user]
    dated = [at for at in kept.values() if at is not None]
    assert (info.behaviors, info.first, info.last) == (len(kept), min(dated, default=None), max(dated, default=None))
    assert info.version == store.history(user).version
    store.close()


def test_a_text_is_found_in_whichever_block_its_behaviour_stands(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "BLOCK", 1)  # two behaviours a block
    store = SqlStore(SqlConfig(str(path)))
    store.add([Behavior("ann", str(i), "in", "out") for i in range(9)])
    store.put_vectors("key", [VectorRow("ann", str(i), f"{i % 6:032x}", np.full(2, i % 6)) for i in range(9)])
    found = store.find_vectors("key", [f"{i:032x}" for i in range(7)])
    assert {int(d, 16): v.tolist() for d, v in found.items()} == {i: [i, i] for i in range(6)}
    assert len(store.vectors("ann", "key")) == 6
    monkeypatch.setattr(sql, "BLOCKS", 2)  # the last is 4, of behaviours 8 and 9: 6 to 9 are looked through
    assert {int(d, 16) for d in store.find_vectors("key", [f"{i:032x}" for i in range(7)])} == {5, 0, 1, 2}
    assert len(store.vectors("ann", "key")) == 6
    store.close()


@given(st.text(st.characters(exclude_categories=["Cs"])) | st.binary(min_size=16, max_size=16).map(bytes.hex))
def test_a_digest_comes_back_as_it_was(digest: str) -> None:
    assert unpack_digest(pack_digest(digest)) == digest


def test_a_vector_of_a_new_store_takes_little_more_than_its_own_bytes(path: Path) -> None:
    store = SqlStore(SqlConfig(str(path)))
    rng = np.random.default_rng(0)
    behaviors = [Behavior(f"user {i % 100}", str(i), "how are you?", "not bad at all") for i in range(4000)]
    store.add(behaviors)
    vectors = rng.standard_normal((4000, 384), np.float32)
    rows = [VectorRow(b.user, b.id, rng.bytes(16).hex(), v) for b, v in zip(behaviors, vectors, strict=True)]
    store.put_vectors("sentence/minilm@0123456789abcdef", rows)
    store.close()
    assert path.stat().st_size <= 1.35 * 4000 * 384 * 2  # texts and indexes too; benchmarks/store_scale.py has more


def test_closing_leaves_one_file(path: Path) -> None:
    store = SqlStore(SqlConfig(str(path)))
    store.add([Behavior("ann", "1", "in", "out")])
    store.close()
    assert [p.name for p in path.parent.iterdir()] == ["store.db"]


def test_threads_share_a_store(path: Path) -> None:
    store = SqlStore(SqlConfig(str(path)))
    failures: list[Exception] = []

    def work(name: str) -> None:
        try:
            for i in range(10):
                store.add([Behavior(name, str(i), "in", "out"), Behavior("all", f"{name} {i}", "in", "out")])
                assert len(store.history(name)) == i + 1
        except (AssertionError, PersonaplugError) as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(f"user {n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(store.history("all")) == store.history("all").version == 40
    store.close()
