"""What alembic runs around each migration; the connection comes from `upgrade`, so there is nothing to configure."""

from alembic import context

from personaplug.stores.database.schema import TABLES
from personaplug.stores.migrations import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"], target_metadata=TABLES, version_table=VERSION_TABLE
)
with context.begin_transaction():
    context.run_migrations()
