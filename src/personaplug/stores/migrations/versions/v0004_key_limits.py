"""Limits of a key: its users' rate, the size of a request, behaviours stored of a user."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the columns of revision 0004; NULL is the server's own limit."""
    op.add_column("api_keys", sa.Column("user_rate", sa.Double))
    op.add_column("api_keys", sa.Column("body_bytes", sa.Integer))
    op.add_column("api_keys", sa.Column("behaviors", sa.Integer))
