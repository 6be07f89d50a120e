"""The connection to a store's database: URL, transactions, errors, and erasing the bytes of deleted rows."""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, Table, create_engine, delete, event, exc, inspect, make_url, select
from sqlalchemy.dialects import postgresql, sqlite

from personaplug.core.errors import ConfigError, DataError
from personaplug.core.registry import missing_extra
from personaplug.stores.base import NO_NUL
from personaplug.stores.database.schema import METADATA, TABLES
from personaplug.stores.migrations import HEAD, VERSION_TABLE, create, revision, upgrade

WAIT = 60.0  # seconds to wait for other processes before giving up
CONNECT = 10  # seconds to wait for a PostgreSQL that does not answer
PAGE = 16_384  # bytes of a page of a new file: of SQLite's own 4,096 a vector of 1,024 numbers would leave half empty
CACHE = 16_384  # KiB of pages that a connection caches: the inner pages of large tables' trees, and one block's digests
ERASING = "personaplug.erasing"  # metadata: an erasure has begun, its bytes may still be in the files

_WRITING = f"another process has been writing for more than {WAIT:.0f} s; try again"
_WAYS_OUT = {
    "not a database": "name a personaplug store or a new file",
    "malformed": "restore it from a backup",
    "lock timeout": _WRITING,
    "locked": _WRITING,
    "readonly": "make the file and its folder writable",
    "is full": "free some space",
    "unable to open": "check that you may read and write it",
}

# Errors of the request, not of the store.
_REQUEST_ERRORS = {
    "cannot contain NUL": NO_NUL,
    "index row ": "a name or an id is longer than PostgreSQL can look up (2,700 bytes); use a shorter one",
}


class Database:
    """A SQLite file in WAL mode or a PostgreSQL database, with the tables of the newest revision.

    Raises:
        ConfigError: the URL is not one, or of another kind of database.
        DataError: what is there is no store, is damaged, cannot be reached, or was made by a newer personaplug.
    """

    def __init__(self, url: str) -> None:
        place = _locate(url)
        self.sqlite = place.get_backend_name() == "sqlite"
        self.where = str(place.database) if self.sqlite else place.set(drivername="postgresql").render_as_string()
        self._engine = _engine(place)
        self._writer = self._engine.execution_options(personaplug_writes="FULL")
        self._nondurable_writer = self._engine.execution_options(personaplug_writes="NORMAL")
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that reads one consistent state of the store without waiting for writers."""
        with self._errors(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[Connection]:
        """A transaction: rolled back if the block raises, on disk when it ends.

        Args:
            durable: False does not wait for the disk, for data that can be computed again: a power cut, though no
                killed process, may undo the transaction, but never an earlier one.
        """
        with self._errors(), (self._writer if durable else self._nondurable_writer).begin() as connection:
            if not durable and not self.sqlite:
                connection.exec_driver_sql("SET LOCAL synchronous_commit = off")
            yield connection

    def insert(self, table: Table) -> Any:
        """The dialect's own INSERT, which supports ON CONFLICT."""
        return sqlite.insert(table) if self.sqlite else postgresql.insert(table)

    def put_document(self, connection: Connection, key: str, value: Mapping[str, Any]) -> None:
        """Store a JSON document under `key`."""
        insert = self.insert(METADATA).values(key=key, value=dict(value))
        connection.execute(
            insert.on_conflict_do_update(index_elements=[METADATA.c.key], set_={"value": insert.excluded.value})
        )

    def begin_erasing(self, connection: Connection) -> str:
        """Record in the deletion's transaction that bytes are left to erase, crash-proof; returns a token."""
        token = uuid.uuid4().hex
        self.put_document(connection, ERASING, {"token": token})
        return token

    def erase(self, token: str, *, wait: bool = True) -> None:
        """Rewrite the store's files, so that no byte of deleted rows is left.

        Args:
            token: of `begin_erasing`.
            wait: for other processes that are still reading the old bytes.

        Raises:
            DataError: with `wait`, another process did not stop reading the old bytes.
        """
        with self._errors():
            done = self._rewrite_file(WAIT if wait else 0.0) if self.sqlite else self._rewrite_tables()
        if done:
            with self.write() as connection:
                pending = document(connection, ERASING)
                if pending is not None and pending["token"] == token:  # else a later erasure is still running
                    connection.execute(delete(METADATA).where(METADATA.c.key == ERASING))
        elif wait:
            raise DataError(
                f"store {self.where}: deleted, but a process has been reading the store for {WAIT:.0f} s, so that old "
                "bytes are left in its -wal file; end that process and open the store again"
            )

    def close(self) -> None:
        """Release files and connections."""
        self._engine.dispose()

    def _open(self) -> None:
        with self.read() as connection:
            stored = revision(connection)
            if stored is None:
                self._reject_foreign_tables(connection)
        if stored != HEAD:
            if self.sqlite:
                self._use_wal()
            with self.write() as connection:  # SQLite's write lock lets one process upgrade while the others wait
                if not self.sqlite:
                    connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7267364)")
                if revision(connection) is None:
                    create(connection)
                else:
                    upgrade(connection, self.where)
            if self.sqlite and stored is not None:
                with self._errors():  # frees the old tables' pages
                    self._rewrite_file(0.0)
        with self.read() as connection:
            pending = document(connection, ERASING)
        if pending is not None:
            self.erase(pending["token"], wait=False)

    def _reject_foreign_tables(self, connection: Connection) -> None:
        foreign = set(inspect(connection).get_table_names())
        if VERSION_TABLE in foreign:  # another process has just made the tables
            return
        if not self.sqlite:  # a PostgreSQL database may be shared, as long as no table of ours is in the way
            foreign &= set(TABLES.tables)
        if foreign:
            raise DataError(
                f"store {self.where}: has a table {min(foreign)!r} that personaplug did not make; name another one"
            )

    def _use_wal(self) -> None:
        # SQLite does not wait for its lock here, so processes that open a fresh file at once retry by hand.
        deadline = time.monotonic() + WAIT
        with self._errors(), closing(self._engine.raw_connection()) as raw:
            while True:
                try:
                    raw.cursor().execute(f"PRAGMA page_size={PAGE}")  # nothing where the file is one already
                    raw.cursor().execute("PRAGMA journal_mode=WAL")
                except sqlite3.OperationalError as error:
                    if "locked" not in str(error) or time.monotonic() > deadline:
                        raise
                    time.sleep(0.02)
                else:
                    return

    def _rewrite_file(self, wait: float) -> bool:
        deadline = time.monotonic() + wait
        with closing(self._engine.raw_connection()) as raw:
            cursor = raw.cursor()
            cursor.execute("VACUUM")
            while True:  # the new file is in the log; it replaces the old one when no process reads that any more
                busy, _, _ = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                if not busy or time.monotonic() > deadline:
                    return not busy
                time.sleep(0.05)

    def _rewrite_tables(self) -> bool:
        names = ", ".join(TABLES.tables)
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql(f"VACUUM FULL {names}")
        return True

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except UnicodeEncodeError:
            raise DataError(f"store {self.where}: half a surrogate pair (\\ud800-\\udfff) is not text") from None
        except (exc.DBAPIError, sqlite3.Error) as error:
            cause = " ".join(str(getattr(error, "orig", None) or error).split())
            if said := next((said for sign, said in _REQUEST_ERRORS.items() if sign in cause), None):
                raise DataError(said) from None
            way_out = next((f"; {way}" for sign, way in _WAYS_OUT.items() if sign in cause), "")
            raise DataError(f"store {self.where}: {cause}{way_out}") from None


def document(connection: Connection, key: str) -> Mapping[str, Any] | None:
    """The JSON document stored under `key`, or None."""
    return connection.execute(select(METADATA.c.value).where(METADATA.c.key == key)).scalar_one_or_none()


def _locate(given: str) -> URL:
    """The URL of a path or URL; for SQLite, with an absolute path in a folder that exists."""
    if "://" not in given:
        url = URL.create("sqlite", database=given)
    else:
        try:
            url = make_url(given)
        except exc.ArgumentError:
            raise ConfigError(
                f"store url {given!r}: not a URL; expected a path or postgresql://HOST/DATABASE"
            ) from None
    if url.drivername in {"postgresql", "postgresql+psycopg"}:
        return url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() != "sqlite":
        raise ConfigError(f"store url {given!r}: expected sqlite:///PATH or postgresql://HOST/DATABASE")
    if not url.database or url.database == ":memory:":
        raise ConfigError(f"store url {given!r}: a store must last; give the path of a file")
    path = Path(url.database).expanduser().absolute()
    if path.is_dir():
        raise DataError(f"store {path}: is a folder; name a file in it, for example {path / 'personaplug.db'}")
    if not path.parent.is_dir():
        raise DataError(f"store {path}: its folder does not exist; make it first")
    return url.set(database=str(path))


def _engine(url: URL) -> Engine:
    on_sqlite = url.get_backend_name() == "sqlite"
    waiting = {"timeout": WAIT} if on_sqlite else {"connect_timeout": url.query.get("connect_timeout", CONNECT)}
    try:
        engine = create_engine(
            url,
            json_serializer=partial(json.dumps, ensure_ascii=False),
            connect_args=waiting,
            max_overflow=-1,  # there are never more connections than threads
            pool_pre_ping=not on_sqlite,  # replaces a connection whose server has restarted, before it is used
        )
    except ModuleNotFoundError as error:
        raise missing_extra(f"store {url.drivername!r}", error) from error
    event.listen(engine, "connect", _prepare_connection if on_sqlite else _bound_waiting)
    if on_sqlite:
        event.listen(engine, "begin", _begin)
    return engine


def _prepare_connection(raw: Any, _record: Any) -> None:
    raw.isolation_level = None  # the driver would send BEGIN too late; `_begin` does it
    for pragma in ("foreign_keys=ON", "secure_delete=ON", "synchronous=FULL", f"cache_size=-{CACHE}"):
        raw.execute(f"PRAGMA {pragma}")


def _bound_waiting(raw: Any, _record: Any) -> None:
    raw.execute(f"SET lock_timeout = '{WAIT:g}s'")  # else a hanging writer would block all others for ever
    raw.commit()


def _begin(connection: Connection) -> None:
    # A write takes its lock at once: a read transaction that writes later would fail instead of waiting.
    synchronous = connection.get_execution_options().get("personaplug_writes")
    if synchronous:
        connection.exec_driver_sql(f"PRAGMA synchronous={synchronous}")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if synchronous else "BEGIN")
