"""Vectors in less room, added at one speed: encoders by number, digests as bytes and in blocks; counts with users."""

import re

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_HASH = "[0-9a-f]{32}"


def upgrade() -> None:
    """Bring the tables of revision 0001 to 0002; every user, behaviour, vector and state stays."""
    _count_behaviors()
    op.drop_index("behaviors_user_at", "behaviors")
    op.drop_column("behaviors", "digest")
    op.drop_index("vectors_encoder_digest", "vectors")
    op.rename_table("vectors", "old_vectors")
    op.create_table(
        "encoders",
        sa.Column("key", _KEY, primary_key=True),
        sa.Column("name", sa.Text, nullable=False, unique=True),
    )
    op.create_table(
        "vectors",
        sa.Column("key", _KEY, primary_key=True),
        sa.Column("user", _KEY, sa.ForeignKey("users.key", ondelete="CASCADE"), nullable=False),
        sa.Column("behavior", _KEY, nullable=False),
        sa.Column("encoder", _KEY, sa.ForeignKey("encoders.key"), nullable=False),
        sa.Column("block", sa.Integer, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("dim", sa.Integer, nullable=False),
        sa.Column("vector", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("block", "digest", "encoder", "behavior", name="vectors_text"),
    )
    op.create_index("vectors_user", "vectors", ["user"])
    _copy_vectors()
    op.drop_table("old_vectors")


def _count_behaviors() -> None:
    op.add_column("users", sa.Column("behaviors", sa.Integer, nullable=False, server_default="0"))
    op.add_column("users", sa.Column("first", sa.Double))
    op.add_column("users", sa.Column("last", sa.Double))
    users = sa.table("users", *map(sa.column, ("key", "behaviors", "first", "last")))
    b = sa.table("behaviors", *map(sa.column, ("key", "user", "at")))
    counted = {"behaviors": sa.func.count(b.c.key), "first": sa.func.min(b.c.at), "last": sa.func.max(b.c.at)}
    own = {name: sa.select(v).where(b.c.user == users.c.key).scalar_subquery() for name, v in counted.items()}
    op.execute(sa.update(users).values(own))


def _copy_vectors() -> None:
    names = ("behavior", "encoder", "digest", "dim", "vector")
    old = sa.table("old_vectors", *map(sa.column, names))
    new = sa.table("vectors", *map(sa.column, (*names, "block", "user")))
    behaviors = sa.table("behaviors", *map(sa.column, ("key", "user")))
    encoders = sa.table("encoders", sa.column("key"), sa.column("name"))
    op.execute(sa.insert(encoders).from_select(["name"], sa.select(old.c.encoder).distinct()))
    rows = (
        sa.select(
            old.c.behavior,
            encoders.c.key,
            _packed(old.c.digest),
            old.c.dim,
            old.c.vector,
            old.c.behavior.bitwise_rshift(sa.literal(14, sa.Integer)),
            behaviors.c.user,
        )
        .join_from(old, encoders, encoders.c.name == old.c.encoder)
        .join(behaviors, behaviors.c.key == old.c.behavior)
        .order_by(behaviors.c.user, old.c.behavior)
    )
    op.execute(sa.insert(new).from_select([*names, "block", "user"], rows))


def _packed(digest: "sa.ColumnElement[str]") -> "sa.ColumnElement[bytes]":
    """32 hex digits as a 1 and 16 bytes, any other text as a 0 and its UTF-8."""
    bind = op.get_bind()
    if bind.dialect.name == "sqlite":
        raw = bind.connection.driver_connection
        assert raw is not None
        raw.create_function("packed_digest", 1, _pack, deterministic=True)
        return sa.func.packed_digest(digest, type_=sa.LargeBinary)
    one, nought = (sa.literal_column(f"'\\x0{n}'::bytea", sa.LargeBinary) for n in (1, 0))
    return sa.case(
        (digest.regexp_match(f"^{_HASH}$"), one.op("||")(sa.func.decode(digest, "hex"))),
        else_=nought.op("||")(sa.func.convert_to(digest, "UTF8")),
    )


def _pack(digest: str) -> bytes:
    return b"\1" + bytes.fromhex(digest) if re.fullmatch(_HASH, digest) else b"\0" + digest.encode()
