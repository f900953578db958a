"""Rows to records: the one select for blocks, and the objects that stored bytes decode to."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, Select, and_, select

from chain.records import BlockRecord
from chain.tables import blocks, witnesses
from consensus.block import decode_header
from consensus.ledger import Account
from consensus.transaction import SignedTransfer, decode_signed

_SERVED = and_(witnesses.c.block == blocks.c.arrival, witnesses.c.witness_id == blocks.c.witness_id)


def select_blocks() -> Select[Any]:
    """Blocks with the counts of the witness that is served for them; read by `to_block`."""
    counts = (witnesses.c.train_correct, witnesses.c.eval_correct)
    return select(blocks, *counts).select_from(blocks.outerjoin(witnesses, _SERVED))


def to_block(row: Row[Any]) -> BlockRecord:
    """The record of a row of `select_blocks`."""
    return BlockRecord(
        block_id=row.block_id,
        header=decode_header(row.header),
        work=row.work,
        chain_work=row.chain_work,
        arrival=row.arrival,
        transaction_count=row.transaction_count,
        fees=row.fees,
        witness_id=row.witness_id,
        train_correct=row.train_correct,
        eval_correct=row.eval_correct,
        active=row.active,
    )


def to_transfer(signed: bytes) -> SignedTransfer:
    """The transfer in stored bytes."""
    return decode_signed(signed)


def to_account(row: Row[Any]) -> Account:
    """The account of a row with a balance and a nonce."""
    return Account(row.balance, row.nonce)
