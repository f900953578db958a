"""The first schema: chain, blocks, witnesses, transactions, accounts with their changes, and the mempool."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create every table."""
    _create_chain()
    _create_blocks()
    _create_witnesses()
    _create_transactions()
    _create_accounts()
    _create_mempool()


def downgrade() -> None:
    """There is nothing before the first schema."""
    raise NotImplementedError("the first schema cannot be taken back; delete the file instead")


def _create_chain() -> None:
    op.create_table(
        "chain",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("params", sa.LargeBinary, nullable=False),
        sa.Column("dataset", sa.LargeBinary, nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_chain_single")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_chain")),
    )


def _create_blocks() -> None:
    op.create_table(
        "blocks",
        sa.Column("arrival", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("block_id", sa.LargeBinary(32), nullable=False),
        sa.Column("parent", sa.LargeBinary(32), nullable=False),
        sa.Column("height", sa.Integer, nullable=False),
        sa.Column("header", sa.LargeBinary, nullable=False),
        sa.Column("miner", sa.LargeBinary(32), nullable=False),
        sa.Column("work", sa.LargeBinary(8), nullable=False),
        sa.Column("chain_work", sa.LargeBinary(16), nullable=False),
        sa.Column("transaction_count", sa.Integer, nullable=False),
        sa.Column("fees", sa.LargeBinary(8), nullable=False),
        sa.Column("witness_id", sa.LargeBinary(32)),
        sa.Column("active", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.PrimaryKeyConstraint("arrival", name=op.f("pk_blocks")),
        sa.UniqueConstraint("block_id", name=op.f("uq_blocks_block_id")),
    )
    op.create_index(op.f("ix_blocks_parent"), "blocks", ["parent"])
    op.create_index(op.f("ix_blocks_miner_height"), "blocks", ["miner", "height"])
    op.create_index(
        op.f("uq_blocks_active_height"),
        "blocks",
        ["height"],
        unique=True,
        sqlite_where=sa.text("active = 1"),
        postgresql_where=sa.text("active"),
    )


def _create_witnesses() -> None:
    op.create_table(
        "witnesses",
        sa.Column("block", sa.Integer, nullable=False),
        sa.Column("witness_id", sa.LargeBinary(32), nullable=False),
        sa.Column("train_correct", sa.Integer, nullable=False),
        sa.Column("eval_correct", sa.Integer, nullable=False),
        sa.Column("witness", sa.LargeBinary),
        sa.ForeignKeyConstraint(["block"], ["blocks.arrival"], name=op.f("fk_witnesses_block")),
        sa.PrimaryKeyConstraint("block", "witness_id", name=op.f("pk_witnesses")),
    )


def _create_transactions() -> None:
    op.create_table(
        "transactions",
        sa.Column("block", sa.Integer, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("height", sa.Integer, nullable=False),
        sa.Column("tx_id", sa.LargeBinary(32), nullable=False),
        sa.Column("sender", sa.LargeBinary(32), nullable=False),
        sa.Column("recipient", sa.LargeBinary(32), nullable=False),
        sa.Column("signed", sa.LargeBinary, nullable=False),
        sa.ForeignKeyConstraint(["block"], ["blocks.arrival"], name=op.f("fk_transactions_block")),
        sa.PrimaryKeyConstraint("block", "position", name=op.f("pk_transactions")),
    )
    op.create_index(op.f("ix_transactions_tx_id"), "transactions", ["tx_id"])
    op.create_index(op.f("ix_transactions_sender"), "transactions", ["sender", "height", "position"])
    op.create_index(op.f("ix_transactions_recipient"), "transactions", ["recipient", "height", "position"])


def _create_accounts() -> None:
    op.create_table(
        "account_changes",
        sa.Column("block", sa.Integer, nullable=False),
        sa.Column("key", sa.LargeBinary(32), nullable=False),
        sa.Column("height", sa.Integer, nullable=False),
        sa.Column("balance_before", sa.LargeBinary(8), nullable=False),
        sa.Column("nonce_before", sa.LargeBinary(8), nullable=False),
        sa.Column("balance_after", sa.LargeBinary(8), nullable=False),
        sa.Column("nonce_after", sa.LargeBinary(8), nullable=False),
        sa.ForeignKeyConstraint(["block"], ["blocks.arrival"], name=op.f("fk_account_changes_block")),
        sa.PrimaryKeyConstraint("block", "key", name=op.f("pk_account_changes")),
    )
    op.create_index(op.f("ix_account_changes_key_height"), "account_changes", ["key", "height"])
    op.create_table(
        "accounts",
        sa.Column("key", sa.LargeBinary(32), nullable=False),
        sa.Column("balance", sa.LargeBinary(8), nullable=False),
        sa.Column("nonce", sa.LargeBinary(8), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_accounts")),
    )


def _create_mempool() -> None:
    op.create_table(
        "mempool",
        sa.Column("sequence", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("tx_id", sa.LargeBinary(32), nullable=False),
        sa.Column("signed", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_mempool")),
        sa.UniqueConstraint("tx_id", name=op.f("uq_mempool_tx_id")),
    )
