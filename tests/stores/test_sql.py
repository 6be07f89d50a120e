"""What a user sees when the file is not what it should be, and what SQLite is told."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from personaplug.errors import ConfigError, DataError, PersonaplugError
from personaplug.stores.base import VectorRow
from personaplug.stores.database.rows import pack_state, unpack_state
from personaplug.stores.sql import SqlConfig, SqlStore
from personaplug.types import Behavior


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
    store = SqlStore(SqlConfig(str(path)))
    with store._db.read() as connection:
        told = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "secure_delete", "foreign_keys", "busy_timeout")
        }
    store.close()
    full = 2
    assert told == {
        "journal_mode": "wal",
        "synchronous": full,
        "secure_delete": 1,
        "foreign_keys": 1,
        "busy_timeout": 60_000,
    }


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
