"""PostgreSQL under several writers; runs where PERSONAPLUG_TEST_POSTGRES names an empty database to work in.

The contract tests run on it too.
"""

from __future__ import annotations

import os
import threading
import uuid

import pytest

from personaplug.errors import DataError
from personaplug.stores.sql import SqlConfig, SqlStore
from personaplug.types import Behavior

URL = os.environ.get("PERSONAPLUG_TEST_POSTGRES", "")
pytestmark = pytest.mark.skipif(not URL, reason="PERSONAPLUG_TEST_POSTGRES is not set")


def test_writers_at_once_lose_and_double_nothing() -> None:
    users = [f"{uuid.uuid4()}" for _ in range(3)]
    failures: list[Exception] = []

    def work(name: int) -> None:
        store = SqlStore(SqlConfig(URL))
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
    store = SqlStore(SqlConfig(URL))
    assert failures == []
    for user in users:
        assert len(store.history(user)) == 6 * 10 + 10
        assert store.forget(user).behaviors == 70
    store.close()


def test_a_nul_is_refused_in_one_line() -> None:
    store = SqlStore(SqlConfig(URL))
    with pytest.raises(DataError, match="NUL") as error:
        store.add([Behavior(f"{uuid.uuid4()}", "1", "a\0b", "out")])
    assert "\n" not in str(error.value)
    store.close()
