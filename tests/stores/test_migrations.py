"""Opening a store makes or upgrades its tables, quietly and once."""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from personaplug import registry
from personaplug.errors import DataError
from personaplug.stores import migrations
from personaplug.stores.database.schema import TABLES
from personaplug.stores.sql import SqlConfig, SqlStore
from personaplug.types import Behavior


def test_an_empty_file_becomes_a_store(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.touch()
    store = SqlStore(SqlConfig(str(path)))
    store.add([Behavior("ann", "1", "in", "out")])
    store.close()
    again = SqlStore(SqlConfig(f"sqlite:///{path}"))
    assert len(again.history("ann")) == 1
    again.close()


def test_upgrading_an_upgraded_store_changes_nothing(tmp_path: Path) -> None:
    store = SqlStore(SqlConfig(str(tmp_path / "store.db")))
    store.add([Behavior("ann", "1", "in", "out")])
    for _ in range(2):
        with store._db.write() as connection:
            migrations.upgrade(connection, "here")
    assert len(store.history("ann")) == 1
    store.close()


def test_the_migrations_lead_to_the_tables_that_the_code_uses(tmp_path: Path) -> None:
    store = SqlStore(SqlConfig(str(tmp_path / "store.db")))
    with store._db.read() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": migrations.VERSION_TABLE})
        assert compare_metadata(context, TABLES) == []
    store.close()


def test_head_is_the_newest_migration() -> None:
    assert ScriptDirectory(str(migrations.FOLDER)).get_current_head() == migrations.HEAD


def test_a_store_of_a_newer_version_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    SqlStore(SqlConfig(str(path))).close()
    raw = sqlite3.connect(path)
    raw.execute(f"UPDATE {migrations.VERSION_TABLE} SET version_num = '9999'")
    raw.commit()
    raw.close()
    with pytest.raises(DataError, match=r"revision '9999' is newer.*upgrade personaplug"):
        SqlStore(SqlConfig(str(path)))


def test_a_migration_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "store.db"

    def fail(connection: object, where: str) -> None:
        upgrade(connection, where)
        raise RuntimeError("power cut")

    upgrade = migrations.upgrade
    monkeypatch.setattr("personaplug.stores.database.connection.upgrade", fail)
    with pytest.raises(RuntimeError):
        SqlStore(SqlConfig(str(path)))
    raw = sqlite3.connect(path)
    assert raw.execute("SELECT name FROM sqlite_master").fetchall() == []
    raw.close()
    monkeypatch.undo()
    SqlStore(SqlConfig(str(path))).close()


def test_opening_a_store_leaves_logging_and_the_terminal_alone(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = (logging.root.level, list(logging.root.handlers), logging.getLogger("alembic").level)
    SqlStore(SqlConfig(str(tmp_path / "100% a store.db"))).close()
    assert (logging.root.level, list(logging.root.handlers), logging.getLogger("alembic").level) == before
    assert capfd.readouterr() == ("", "")


def test_only_stores_stand_on_the_shelf() -> None:
    assert registry.names("store") == ["sql"]
    assert registry.find("store", "sql") is SqlStore
