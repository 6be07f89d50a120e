"""Brings a store's tables to the newest revision, in the caller's transaction and with no alembic.ini."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, column, inspect, select, table

from personaplug.core.errors import DataError

HEAD = "0004"  # the newest revision; kept here so that opening an up-to-date store needs no alembic
VERSION_TABLE = "personaplug_version"  # not alembic's default: a store may share a PostgreSQL database with others
FOLDER = Path(__file__).parent


def revision(connection: Connection) -> str | None:
    """The revision that a store's tables are at, or None where there are none."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.execute(select(column("version_num")).select_from(table(VERSION_TABLE))).scalar()


def upgrade(connection: Connection, where: str) -> None:
    """Run every migration that the store at `where` has not seen; the caller's transaction makes it all or nothing.

    Raises:
        DataError: a newer personaplug made the store.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    found = revision(connection)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        raise DataError(
            f"store {where}: revision {found!r} is newer than this personaplug's {HEAD!r}; upgrade personaplug"
        )
    command.upgrade(config, "head")
