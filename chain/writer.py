"""The statements that change the chain's tables, each within the transaction of its caller (chain.chain)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table, bindparam, delete, exists, func, insert, not_, select, update

from chain.ledger import AccountChange
from chain.records import BlockRecord, Candidate
from chain.rows import select_blocks, to_block
from chain.tables import account_changes, accounts, blocks, mempool, transactions, witnesses
from consensus.block import Header, Witness, encode_header, encode_witness
from consensus.encoding import Hash32, Height
from consensus.ledger import Account, compute_fees
from consensus.params import ChainSpec
from consensus.transaction import encode_signed


def write_genesis(connection: Connection, spec: ChainSpec) -> None:
    """The block of height 0 and the accounts that it funds."""
    values = _describe_header(spec.genesis, spec.chain_id) | {"arrival": 0, "active": True}
    unpaid = {"work": 0, "chain_work": 0, "transaction_count": 0, "fees": 0}
    connection.execute(insert(blocks).values(values | unpaid))
    write_accounts(connection, spec.genesis_accounts)


def write_block(connection: Connection, candidate: Candidate) -> int:
    """A block with its transfers and its witness, not active yet; returns its arrival."""
    block, witness = candidate.block, candidate.block.witness
    assert witness is not None
    arrival = connection.execute(select(func.max(blocks.c.arrival) + 1)).scalar_one()
    values = {
        "arrival": arrival,
        "work": candidate.work,
        "chain_work": candidate.chain_work,
        "transaction_count": len(block.transfers),
        "fees": compute_fees(block.transfers),
        "witness_id": witness.witness_id,
        "active": False,
    }
    connection.execute(insert(blocks).values(values | _describe_header(block.header, candidate.block_id)))
    write_witness(connection, arrival, witness)
    _insert(connection, transactions, _describe_transfers(candidate, arrival))
    return int(arrival)


def write_witness(connection: Connection, arrival: int, witness: Witness) -> None:
    """A verified witness of a stored block."""
    values = {
        "block": arrival,
        "witness_id": witness.witness_id,
        "train_correct": witness.train_correct,
        "eval_correct": witness.eval_correct,
        "witness": encode_witness(witness),
    }
    connection.execute(insert(witnesses).values(values))


def write_changes(
    connection: Connection, arrival: int, height: Height, changes: Sequence[AccountChange]
) -> None:
    """What a block does to the accounts, so that it can be undone and done again."""
    rows = [
        {
            "block": arrival,
            "key": change.key,
            "height": height,
            "balance_before": change.before.balance,
            "nonce_before": change.before.nonce,
            "balance_after": change.after.balance,
            "nonce_after": change.after.nonce,
        }
        for change in changes
    ]
    _insert(connection, account_changes, rows)


def write_accounts(connection: Connection, changed: Mapping[bytes, Account]) -> None:
    """The accounts at the tip. An empty account has no row: undoing a block leaves no trace of it."""
    if changed:
        gone = delete(accounts).where(accounts.c.key == bindparam("changed"))
        connection.execute(gone, [{"changed": key} for key in changed])
    rows = [
        {"key": key, "balance": account.balance, "nonce": account.nonce}
        for key, account in changed.items()
        if account != Account()
    ]
    _insert(connection, accounts, rows)


def write_served_witness(connection: Connection, header: Header) -> None:
    """Serve for the header's parent the witness that the header commits to."""
    serve = update(blocks).where(blocks.c.block_id == header.parent)
    connection.execute(serve.values(witness_id=header.parent_witness))


def disconnect(connection: Connection, fork_height: Height) -> tuple[BlockRecord, ...]:
    """Take the active blocks above a height off the active chain; returns them, the old tip first.

    Their transfers wait again from this very transaction on, so that none is lost where the process dies.
    """
    above = (blocks.c.active, blocks.c.height > fork_height)
    query = select_blocks().where(*above).order_by(blocks.c.height.desc())
    arrivals = [row.arrival for row in connection.execute(query).all()]
    connection.execute(update(blocks).where(*above).values(active=False))
    write_accounts(connection, _read_values(connection, arrivals, "before"))
    _return_transfers(connection, arrivals[::-1])
    return tuple(get_record(connection, arrival) for arrival in arrivals)


def connect(connection: Connection, arrivals: Sequence[int]) -> tuple[BlockRecord, ...]:
    """Put blocks, the lowest first, on the active chain; returns them in that order."""
    for arrival in arrivals:
        connection.execute(update(blocks).where(blocks.c.arrival == arrival).values(active=True))
    write_accounts(connection, _read_values(connection, arrivals, "after"))
    connected = [get_record(connection, arrival) for arrival in arrivals]
    for record in connected:
        if record.height > 1:
            write_served_witness(connection, record.header)
    return tuple(get_record(connection, arrival) for arrival in arrivals)


def get_record(connection: Connection, arrival: int) -> BlockRecord:
    """The block of that arrival, as it stands within the transaction."""
    return to_block(connection.execute(select_blocks().where(blocks.c.arrival == arrival)).one())


def _return_transfers(connection: Connection, arrivals: Sequence[int]) -> None:
    """Put the transfers of blocks, the lowest first, where the mempool finds them; none that waits there."""
    waits = exists().where(mempool.c.tx_id == transactions.c.tx_id)
    query = (
        select(transactions.c.tx_id, transactions.c.signed)
        .where(transactions.c.block == bindparam("arrival"), not_(waits))
        .order_by(transactions.c.position)
    )
    rows = [row for arrival in arrivals for row in connection.execute(query, {"arrival": arrival})]
    lowest = connection.execute(select(func.min(mempool.c.sequence))).scalar_one() or 0
    start = min(lowest, 0) - len(rows)
    values = [
        {"sequence": start + place, "tx_id": row.tx_id, "signed": row.signed}
        for place, row in enumerate(rows)
    ]
    _insert(connection, mempool, values)


def _read_values(connection: Connection, arrivals: Sequence[int], side: str) -> dict[bytes, Account]:
    """The values that blocks found or left, read in the order given; a later block's win."""
    balance, nonce = account_changes.c[f"balance_{side}"], account_changes.c[f"nonce_{side}"]
    values: dict[bytes, Account] = {}
    for arrival in arrivals:
        query = select(account_changes.c.key, balance, nonce).where(account_changes.c.block == arrival)
        values |= {key: Account(*value) for key, *value in connection.execute(query)}
    return values


def _describe_header(header: Header, block_id: Hash32) -> dict[str, Any]:
    return {
        "block_id": block_id,
        "parent": header.parent,
        "height": header.height,
        "header": encode_header(header),
        "miner": header.miner,
    }


def _describe_transfers(candidate: Candidate, arrival: int) -> list[dict[str, Any]]:
    return [
        {
            "block": arrival,
            "position": position,
            "height": candidate.block.header.height,
            "tx_id": signed.tx_id,
            "sender": signed.transfer.sender,
            "recipient": signed.transfer.recipient,
            "signed": encode_signed(signed),
        }
        for position, signed in enumerate(candidate.block.transfers)
    ]


def _insert(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        connection.execute(insert(table), rows)
