"""The database's tables. Their history is chain.migrations'; a test holds the two equal.

Blocks are keyed inside by `arrival`, the order in which this node finished verifying them; other tables refer
to it as `block`. What the protocol hashes is kept as canonical bytes; columns beside them are for searching.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    false,
    text,
)
from sqlalchemy.types import TypeDecorator

NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


class Unsigned(TypeDecorator[int]):
    """An unsigned integer as big-endian bytes of one width, which sort like it; SQLite's are signed."""

    impl = LargeBinary
    cache_ok = True

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.width = width

    def process_bind_param(self, value: int | None, dialect: Dialect) -> bytes | None:
        """The bytes of a number. Raises OverflowError where it does not fit."""
        return None if value is None else value.to_bytes(self.width, "big")

    def process_result_value(self, value: Any, dialect: Dialect) -> int | None:
        """The number in stored bytes."""
        return None if value is None else int.from_bytes(value, "big")


U64 = Unsigned(8)
CHAIN_WORK = Unsigned(16)
"""Heights are below 2^32 and works below 2^56: their sum needs 88 bits."""

metadata = MetaData(naming_convention=NAMING_CONVENTION)

chain = Table(
    "chain",
    metadata,
    Column("id", Integer, CheckConstraint("id = 1", name="single"), primary_key=True),
    Column("params", LargeBinary, nullable=False),
    Column("dataset", LargeBinary, nullable=False),
)

blocks = Table(
    "blocks",
    metadata,
    Column("arrival", Integer, primary_key=True, autoincrement=False),
    Column("block_id", LargeBinary(32), nullable=False, unique=True),
    Column("parent", LargeBinary(32), nullable=False, index=True),
    Column("height", Integer, nullable=False),
    Column("header", LargeBinary, nullable=False),
    Column("miner", LargeBinary(32), nullable=False),
    Column("work", U64, nullable=False),
    Column("chain_work", CHAIN_WORK, nullable=False),
    Column("transaction_count", Integer, nullable=False),
    Column("fees", U64, nullable=False),
    Column("witness_id", LargeBinary(32)),
    Column("active", Boolean, nullable=False, server_default=false()),
)
# One active block a height, at most: the database itself refuses a torn reorganisation. SQLite uses a partial
# index only for a query that repeats its condition word by word.
Index(
    "uq_blocks_active_height",
    blocks.c.height,
    unique=True,
    sqlite_where=text("active = 1"),
    postgresql_where=text("active"),
)
Index("ix_blocks_miner_height", blocks.c.miner, blocks.c.height)

witnesses = Table(
    "witnesses",
    metadata,
    Column("block", ForeignKey(blocks.c.arrival), primary_key=True),
    Column("witness_id", LargeBinary(32), primary_key=True),
    Column("train_correct", Integer, nullable=False),
    Column("eval_correct", Integer, nullable=False),
    # Empty once pruned: what was verified stays verified.
    Column("witness", LargeBinary),
)

transactions = Table(
    "transactions",
    metadata,
    Column("block", ForeignKey(blocks.c.arrival), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("height", Integer, nullable=False),
    Column("tx_id", LargeBinary(32), nullable=False, index=True),
    Column("sender", LargeBinary(32), nullable=False),
    Column("recipient", LargeBinary(32), nullable=False),
    Column("signed", LargeBinary, nullable=False),
)
Index("ix_transactions_sender", transactions.c.sender, transactions.c.height, transactions.c.position)
Index("ix_transactions_recipient", transactions.c.recipient, transactions.c.height, transactions.c.position)

account_changes = Table(
    "account_changes",
    metadata,
    Column("block", ForeignKey(blocks.c.arrival), primary_key=True),
    Column("key", LargeBinary(32), primary_key=True),
    Column("height", Integer, nullable=False),
    Column("balance_before", U64, nullable=False),
    Column("nonce_before", U64, nullable=False),
    Column("balance_after", U64, nullable=False),
    Column("nonce_after", U64, nullable=False),
)
Index("ix_account_changes_key_height", account_changes.c.key, account_changes.c.height)

# The accounts at the tip; an empty account has no row.
accounts = Table(
    "accounts",
    metadata,
    Column("key", LargeBinary(32), primary_key=True),
    Column("balance", U64, nullable=False),
    Column("nonce", U64, nullable=False),
)

# Below zero in sequence are transfers that a commit took off the active chain, for the mempool to look at.
mempool = Table(
    "mempool",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=False),
    Column("tx_id", LargeBinary(32), nullable=False, unique=True),
    Column("signed", LargeBinary, nullable=False),
)
