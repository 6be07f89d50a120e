"""The store's tables as they are now; each migration leads to them."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

TABLES = MetaData()

# SQLite numbers rows by itself only where the key is spelled INTEGER.
KEY = BigInteger().with_variant(Integer, "sqlite")

USERS = Table(
    "users",
    TABLES,
    Column("key", KEY, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("version", Integer, nullable=False),
)

# `key` rises with each row added: it is the order of arrival.
BEHAVIORS = Table(
    "behaviors",
    TABLES,
    Column("key", KEY, primary_key=True),
    Column("user", ForeignKey("users.key", ondelete="CASCADE"), nullable=False),
    Column("id", Text, nullable=False),
    Column("at", Double),
    Column("rating", Double),
    Column("input", Text, nullable=False),
    Column("output", Text, nullable=False),
    Column("fields", JSON, nullable=False),
    Column("digest", LargeBinary, nullable=False),  # of the content, to tell the same from a conflict
    UniqueConstraint("user", "id", name="behaviors_user_id"),
    Index("behaviors_user_at", "user", "at"),  # counts and dates without reading texts
)

VECTORS = Table(
    "vectors",
    TABLES,
    Column("behavior", ForeignKey("behaviors.key", ondelete="CASCADE"), primary_key=True),
    Column("encoder", Text, primary_key=True),
    Column("digest", Text, primary_key=True),  # of the text that was encoded
    Column("dim", Integer, nullable=False),
    Column("vector", LargeBinary, nullable=False),  # [dim] little-endian float16
    Index("vectors_encoder_digest", "encoder", "digest"),
)

STATES = Table(
    "states",
    TABLES,
    Column("user", ForeignKey("users.key", ondelete="CASCADE"), primary_key=True),
    Column("method", Text, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("arrays", LargeBinary, nullable=False),
)

METADATA = Table(
    "metadata",
    TABLES,
    Column("key", Text, primary_key=True),
    Column("value", JSON, nullable=False),
)
