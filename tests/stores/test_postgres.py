"""PostgreSQL under several writers, and what it cannot keep; the contract tests run on it too."""

from __future__ import annotations

import threading
import uuid

import pytest

from personaplug.core.errors import DataError
from personaplug.core.types import Behavior
from personaplug.stores.database.connection import Database
from personaplug.stores.sql import SqlConfig, SqlStore

pytestmark = pytest.mark.slow


def test_writers_at_once_lose_and_double_nothing(postgres_url: str) -> None:
    users = [f"{uuid.uuid4()}" for _ in range(3)]
    failures: list[Exception] = []

    def work(name: int) -> None:
        store = SqlStore(SqlConfig(postgres_url))
        try:
            for i in range(10):
                order = users if (name + i) % 2 else users[::-1]
                store.add(Behavior(user, id_, "in", "out") for user in order for id_ in (f"{name}-{i}", f"shared-{i}"))
        except DataError as error:
            failures.append(error)
        finally:
            store.close()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store = SqlStore(SqlConfig(postgres_url))
    assert failures == []
    for user in users:
        assert len(store.history(user)) == 6 * 10 + 10
        assert store.forget(user).behaviors == 70
    store.close()


def test_a_writer_that_hangs_holds_nobody_up_for_ever(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("personaplug.stores.database.connection.WAIT", 1)
    other, hanging = SqlStore(SqlConfig(postgres_url)), Database(postgres_url)
    user = f"{uuid.uuid4()}"
    with hanging.write() as connection:
        connection.exec_driver_sql("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(DataError, match="another process has been writing for more than") as error:
            other.add([Behavior(user, "1", "in", "out")])
    assert "\n" not in str(error.value)
    other.add([Behavior(user, "1", "in", "out")])
    assert len(other.history(user)) == 1
    hanging.close()
    other.close()


def test_a_nul_is_refused_in_one_line(postgres_url: str) -> None:
    store = SqlStore(SqlConfig(postgres_url))
    with pytest.raises(DataError, match="NUL") as error:
        store.add([Behavior(f"{uuid.uuid4()}", "1", "a\0b", "out")])
    assert "\n" not in str(error.value)
    store.close()
