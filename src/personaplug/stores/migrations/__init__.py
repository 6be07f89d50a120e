"""Creates a store's tables, or upgrades them to the newest revision, in the caller's transaction; no alembic.ini."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Column, Connection, MetaData, PrimaryKeyConstraint, String, Table, insert, inspect, select

from personaplug.core.errors import DataError
from personaplug.stores.database.schema import TABLES

HEAD = "0004"  # the newest revision; named here so that opening an up-to-date store needs no alembic
VERSION_TABLE = "personaplug_version"  # not alembic's default: a store may share a PostgreSQL database with others
FOLDER = Path(__file__).parent

# As alembic itself would create it.
_VERSION = Table(
    VERSION_TABLE,
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name=f"{VERSION_TABLE}_pkc"),
)


def revision(connection: Connection) -> str | None:
    """The revision that a store's tables are at, or None where there are none."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.execute(select(_VERSION.c.version_num)).scalar()


def create(connection: Connection) -> None:
    """Create the tables of a new store as they are now, without running a migration, and record that they are at HEAD.

    The caller's transaction makes it all or nothing.
    """
    TABLES.create_all(connection, checkfirst=False)
    _VERSION.create(connection)
    connection.execute(insert(_VERSION).values(version_num=HEAD))


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
    stored = revision(connection)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if stored is not None and stored not in known:
        raise DataError(
            f"store {where}: revision {stored!r} is newer than this personaplug's {HEAD!r}; upgrade personaplug"
        )
    command.upgrade(config, "head")
