"""The first tables: users, behaviours, vectors, states, metadata."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables of revision 0001."""
    key = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "users",
        sa.Column("key", key, primary_key=True),
        sa.Column("name", sa.Text, nullable=False, unique=True),
        sa.Column("version", sa.Integer, nullable=False),
    )
    op.create_table(
        "behaviors",
        sa.Column("key", key, primary_key=True),
        sa.Column("user", key, sa.ForeignKey("users.key", ondelete="CASCADE"), nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("at", sa.Double),
        sa.Column("rating", sa.Double),
        sa.Column("input", sa.Text, nullable=False),
        sa.Column("output", sa.Text, nullable=False),
        sa.Column("fields", sa.JSON, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("user", "id", name="behaviors_user_id"),
    )
    op.create_index("behaviors_user_at", "behaviors", ["user", "at"])
    op.create_table(
        "vectors",
        sa.Column("behavior", key, sa.ForeignKey("behaviors.key", ondelete="CASCADE"), primary_key=True),
        sa.Column("encoder", sa.Text, primary_key=True),
        sa.Column("digest", sa.Text, primary_key=True),
        sa.Column("dim", sa.Integer, nullable=False),
        sa.Column("vector", sa.LargeBinary, nullable=False),
    )
    op.create_index("vectors_encoder_digest", "vectors", ["encoder", "digest"])
    op.create_table(
        "states",
        sa.Column("user", key, sa.ForeignKey("users.key", ondelete="CASCADE"), primary_key=True),
        sa.Column("method", sa.Text, primary_key=True),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("arrays", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "metadata",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("value", sa.JSON, nullable=False),
    )
