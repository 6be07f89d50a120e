"""The store's tables at the newest revision; a new store is created from them, an old one migrated to them."""

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

# Digests are random: in one index over all of them each new vector would change a page of its own, and adding would
# slow down as a store grows. So each 2^BLOCK consecutive behaviours have their own range of the index. A text is looked
# up in the newest BLOCKS ranges, a million behaviours: searching more would take longer than encoding the text again.
BLOCK = 14
BLOCKS = 64

USERS = Table(
    "users",
    TABLES,
    Column("key", KEY, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("version", Integer, nullable=False),
    # Counts updated with each change: counting 20 million behaviours anew would take seconds.
    Column("behaviors", Integer, nullable=False, server_default="0"),
    Column("first", Double),
    Column("last", Double),
)

# `key` rises with each row added: it is the insertion order.
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
    UniqueConstraint("user", "id", name="behaviors_user_id"),
)

# An encoder's key is stored once, not with each vector.
ENCODERS = Table(
    "encoders",
    TABLES,
    Column("key", KEY, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
)

# In insertion order, which fills pages completely: ordered by user, a third of them would be empty.
VECTORS = Table(
    "vectors",
    TABLES,
    Column("key", KEY, primary_key=True),
    Column("user", ForeignKey("users.key", ondelete="CASCADE"), nullable=False),
    Column("behavior", KEY, nullable=False),  # no foreign key, which would want an index of its own
    Column("encoder", ForeignKey("encoders.key"), nullable=False),
    Column("block", Integer, nullable=False),  # behavior >> BLOCK
    Column("digest", LargeBinary, nullable=False),  # of the text that was encoded, as rows.pack_digest makes it
    Column("dim", Integer, nullable=False),
    Column("vector", LargeBinary, nullable=False),  # [dim] little-endian float16
    UniqueConstraint("block", "digest", "encoder", "behavior", name="vectors_text"),
    Index("vectors_user", "user"),
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

# API keys of the server, as `personaplug keys` creates them.
API_KEYS = Table(
    "api_keys",
    TABLES,
    Column("id", Text, primary_key=True),
    Column("hash", LargeBinary, nullable=False),
    Column("name", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("users", JSON(none_as_null=True)),
    Column("scopes", JSON, nullable=False),
    Column("rate", Double),
    Column("created", Double, nullable=False),
    Column("revoked", Double),
    Column("user_rate", Double),
    Column("body_bytes", Integer),
    Column("behaviors", Integer),
)
