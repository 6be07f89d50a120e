"""Opening a store makes or upgrades its tables, quietly and once."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, NullPool, create_engine, make_url, text

from personaplug.core import registry
from personaplug.core.errors import ConflictError, DataError
from personaplug.core.types import Behavior
from personaplug.stores import migrations
from personaplug.stores.base import Store, UserInfo, VectorRow
from personaplug.stores.database.connection import Database
from personaplug.stores.database.rows import pack_state
from personaplug.stores.database.schema import TABLES
from personaplug.stores.sql import SqlConfig, SqlStore

VECTOR = np.arange(3, dtype=np.float16)
HASH = "0123456789abcdef" * 2  # what a text is known by; revision 0001 took any other word too


def driver(url: str) -> str:
    return "sqlite" if url.startswith("sqlite") else "postgresql+psycopg"


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def first_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a store of revision 0001 with two users, one of them without a behaviour left."""
    on_sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path / 'store.db'}" if on_sqlite else request.getfixturevalue("postgres_url")
    engine = create_engine(make_url(url).set(drivername=driver(url)))
    with engine.connect() as connection:
        if on_sqlite:
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")
        config = Config()
        config.set_main_option("script_location", str(migrations.FOLDER))
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        rows: list[tuple[str, dict[str, Any]]] = [
            ("users VALUES (1, 'ann', 2), (2, 'bob', 5)", {}),
            *(
                (f"behaviors VALUES ({n}, 1, 'b{n}', {at}, {at}, 'in {n}', 'é', :fields, :blob)",
                 {"fields": '{"b": "2", "a": "1"}', "blob": b"digest"})
                for n, at in ((7, "1"), (8, "NULL"), (9, "0.5"))
            ),
            *(
                (f"vectors VALUES ({n}, '{key}', '{digest}', 3, :blob)", {"blob": (VECTOR * scale).tobytes()})
                for n, key, digest, scale in (
                    (7, "model@1", HASH, 1), (7, "model@2", HASH, 2), (8, "model@1", HASH.upper(), 3),
                    (9, "model@1", "é", 4), (9, "model@1", HASH, 1),
                )
            ),
            ("states VALUES (1, 'plug', 2, :blob)", {"blob": pack_state({"x": VECTOR})}),
            ("metadata VALUES ('source', :value)", {"value": '{"v": 1}'}),
        ]  # fmt: skip
        for row, values in rows:
            connection.execute(text(f"INSERT INTO {row}"), values)
        connection.commit()
    yield url
    engine.dispose()


def test_a_store_of_the_first_revision_is_upgraded_with_nothing_lost(first_store: str) -> None:
    store = SqlStore(SqlConfig(first_store))
    past = store.history("ann")
    fields = {"a": "1", "b": "2"}
    known = (
        Behavior("ann", "b8", "in 8", "é", fields=fields),
        Behavior("ann", "b9", "in 9", "é", 0.5, 0.5, fields),
        Behavior("ann", "b7", "in 7", "é", 1.0, 1.0, fields),
    )
    assert (past.behaviors, past.version) == (known, 2)
    assert store.users() == [UserInfo("ann", 3, 2, 0.5, 1.0), UserInfo("bob", 0, 5, None, None)]
    expected = {"model@1": {HASH: 1, HASH.upper(): 3, "é": 4}, "model@2": {HASH: 2}}
    for key, scales in expected.items():
        for found in (store.vectors("ann", key), store.find_vectors(key, [HASH, HASH.upper(), "é", "absent"])):
            assert {d: v.tolist() for d, v in found.items()} == {d: (VECTOR * s).tolist() for d, s in scales.items()}
    version, state = store.state("ann", "plug") or (0, {})
    assert (version, state["x"].tolist()) == (2, VECTOR.tolist())
    assert store.metadata("source") == {"v": 1}
    store.close()


def test_an_upgraded_store_goes_on_as_any_other(first_store: str) -> None:
    store = SqlStore(SqlConfig(first_store))
    assert (
        store.add([*store.history("ann"), Behavior("ann", "b10", "in", "out", 3.0), Behavior("bob", "1", "", "x")]) == 2
    )
    with pytest.raises(ConflictError):
        store.add([Behavior("ann", "b7", "in", "changed")])
    store.put_vectors("model@1", [VectorRow("ann", id_, HASH, VECTOR * 9) for id_ in ("b7", "b10")])
    assert store.remove("ann", ["b9"]) == 1
    assert store.users() == [UserInfo("ann", 3, 4, 1.0, 3.0), UserInfo("bob", 1, 6, None, None)]
    receipt = store.forget("ann")
    assert (receipt.behaviors, receipt.vectors) == (3, 4)
    store.close()


def test_upgrading_leaves_no_room_of_the_old_tables_in_the_file(first_store: str) -> None:
    if not first_store.startswith("sqlite"):
        pytest.skip("PostgreSQL's own")
    SqlStore(SqlConfig(first_store)).close()
    raw = sqlite3.connect(make_url(first_store).database or "")
    assert raw.execute("PRAGMA freelist_count").fetchone() == (0,)
    assert raw.execute("SELECT name FROM sqlite_master WHERE name LIKE 'old%'").fetchall() == []
    raw.close()


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
    database = Database(str(tmp_path / "store.db"))
    for _ in range(2):
        with database.write() as connection:
            migrations.upgrade(connection, "here")
    database.close()
    assert len(store.history("ann")) == 1
    store.close()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def empty_database(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """A database without a table."""
    if request.param == "sqlite":
        engine = create_engine("sqlite://", poolclass=NullPool)  # each connection is a database of its own
    else:
        url = make_url(request.getfixturevalue("postgres_url"))
        engine = create_engine(url.set(drivername="postgresql+psycopg"))
    yield engine
    engine.dispose()


def description(connection: Connection) -> dict[str, Any]:
    """All that the database itself says of its tables, columns, constraints and indexes."""
    if connection.dialect.name == "sqlite":
        pragmas = ("table_xinfo", "index_list", "foreign_key_list")
        names = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'").scalars().all()
        said = {(t, p): rows(connection, f"PRAGMA {p}({t})") for t in names for p in pragmas}
        indexes = [index[1] for (_, p), listed in said.items() if p == "index_list" for index in listed]
        said |= {(i, "index_xinfo"): rows(connection, f"PRAGMA index_xinfo({i})") for i in indexes}
        return said
    queries = {
        "columns": "SELECT table_name, ordinal_position, column_name, data_type, character_maximum_length, is_nullable,"
        " column_default FROM information_schema.columns WHERE table_schema = 'public'",
        "indexes": "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'",
        "constraints": "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE connamespace = 'public'::regnamespace",
        "sequences": "SELECT sequencename, data_type, start_value FROM pg_sequences",
    }
    return {name: rows(connection, query) for name, query in queries.items()}


def rows(connection: Connection, query: str) -> list[tuple[Any, ...]]:
    # PostgreSQL numbers the key of a table that was made anew beside its old one; nothing uses that name.
    named = ({column: str(value).replace("_pkey1", "_pkey") for column, value in row.items()}
             for row in connection.exec_driver_sql(query).mappings())  # fmt: skip
    return sorted(tuple(row.values()) for row in named)


def test_a_new_store_has_the_very_tables_that_the_migrations_lead_to(empty_database: Engine) -> None:
    said = []
    for make in (migrations.create, lambda connection: migrations.upgrade(connection, "here")):
        with empty_database.connect() as connection:
            make(connection)
            assert migrations.revision(connection) == migrations.HEAD
            said.append(description(connection))
            connection.rollback()
    assert said[0] == said[1]
    assert len(said[0]) > 3


def test_the_migrations_lead_to_the_tables_that_the_code_uses(empty_database: Engine) -> None:
    with empty_database.connect() as connection:
        migrations.upgrade(connection, "here")
        context = MigrationContext.configure(connection, opts={"version_table": migrations.VERSION_TABLE})
        assert compare_metadata(context, TABLES) == []


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


def test_a_migration_that_fails_leaves_nothing_behind(first_store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(connection: Connection, where: str) -> None:
        upgrade(connection, where)
        raise RuntimeError("power cut")

    upgrade = migrations.upgrade
    monkeypatch.setattr("personaplug.stores.database.connection.upgrade", fail)
    with pytest.raises(RuntimeError):
        SqlStore(SqlConfig(first_store))
    engine = create_engine(make_url(first_store).set(drivername=driver(first_store)))
    with engine.connect() as connection:
        assert migrations.revision(connection) == "0001"
        assert connection.execute(text("SELECT count(*) FROM vectors")).scalar_one() == 5
    engine.dispose()
    monkeypatch.undo()
    SqlStore(SqlConfig(first_store)).close()


def test_a_new_store_that_fails_midway_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "store.db"

    def fail(connection: Connection) -> None:
        create(connection)
        raise RuntimeError("power cut")

    create = migrations.create
    monkeypatch.setattr("personaplug.stores.database.connection.create", fail)
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
    assert all(issubclass(registry.find("store", name), Store) for name in registry.names("store"))
    assert registry.find("store", "sql") is SqlStore
