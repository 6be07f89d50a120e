"""PostgreSQL for tests: the server that PERSONAPLUG_TEST_POSTGRES names, else a throw-away one of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import NullPool, create_engine, make_url

NAMED = "PERSONAPLUG_TEST_POSTGRES"
# What is written need survive no power cut.
_OPTIONS = "-c listen_addresses='' -c fsync=off -c synchronous_commit=off -c full_page_writes=off"


class Throwaway:
    """A server of its own folder, reached through a socket in it."""

    def __init__(self, folder: Path) -> None:
        self.url = f"postgresql://postgres@/postgres?host={folder}"
        self._folder = folder
        self._run("initdb", "--pgdata", folder / "data", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-sync")
        self.start()

    def start(self) -> None:
        """Take connections."""
        options = f"{_OPTIONS} -k {self._folder}"
        self._run("pg_ctl", "-D", self._folder / "data", "-l", self._folder / "log", "-w", "-o", options, "start")

    def stop(self) -> None:
        """Break all connections and take no more."""
        self._run("pg_ctl", "-D", self._folder / "data", "-m", "fast", "-w", "stop")

    def _run(self, program: str, *words: object) -> None:
        with (self._folder / "said").open("a+") as said:  # no pipe, which the server would keep open
            command = [str(_programs() / program), *map(str, words)]
            done = subprocess.run(command, cwd=self._folder, stdout=said, stderr=said, check=False, **_user())
            said.seek(0)
            assert done.returncode == 0, said.read()


@contextmanager
def throwaway() -> Iterator[Throwaway]:
    """A server until the end of the block; skips where there is no PostgreSQL, or nobody who may run it."""
    _programs(), _user()
    with tempfile.TemporaryDirectory(prefix="personaplug-", dir="/tmp") as name:  # a socket's path must be short
        if owner := _user().get("user"):
            shutil.chown(name, owner)
        server = Throwaway(Path(name))
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def database(server: str) -> Iterator[str]:
    """The URL of a new database on a server, gone after the block."""
    name = f"personaplug_test_{uuid.uuid4().hex}"
    url = make_url(server).set(drivername="postgresql+psycopg")
    engine = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
        yield url.set(drivername="postgresql", database=name).render_as_string(hide_password=False)
        with engine.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        engine.dispose()


def _programs() -> Path:
    """The folder with initdb and pg_ctl; Debian keeps each version's out of the PATH."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not folders:
        pytest.skip(f"no PostgreSQL here; install it, or name a server in {NAMED}")
    return folders[-1]


def _user() -> dict[str, Any]:
    """Who runs it, as `subprocess.run` takes it: root must not."""
    if os.geteuid() != 0:
        return {}
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = known.get("postgres") or known.get("nobody")
    if entry is None:
        pytest.skip(f"PostgreSQL does not run as root, and there is no other user; name a server in {NAMED}")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
