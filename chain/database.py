"""The operator's view of the database file: checking it from the ground up, copying and upgrading it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from sqlalchemy import Connection, exists, func, not_, select

from chain.engines import build_inspector, take_process_lock
from chain.errors import StoreError
from chain.ledger import AccountChange, compute_changes
from chain.records import BlockRecord
from chain.rows import select_blocks, to_account, to_block, to_transfer
from chain.schema import get_newest_revision, get_revision
from chain.store import translate_errors, upgrade_schema
from chain.tables import account_changes, accounts, blocks, chain, transactions, witnesses
from chain.view import View
from consensus.block import Block, decode_witness
from consensus.difficulty import get_required_rung
from consensus.encoding import Hash32
from consensus.errors import ConsensusError
from consensus.ledger import Account, compute_fees
from consensus.params import ChainSpec
from consensus.rules import check_claims, check_header, check_transactions_root

_BUSY_TIMEOUT_SECONDS = 5.0


def check_database(path: Path, spec: ChainSpec) -> list[str]:
    """Everything wrong with a database, a line each; empty where it is sound. Reads only.

    Hashes, headers, works and accounts are computed anew from genesis; witnesses are not evaluated again.
    Raises StoreError where the file cannot be opened.
    """
    with translate_errors(path), build_inspector(path, _BUSY_TIMEOUT_SECONDS).begin() as connection:
        revision = get_revision(connection)
        if revision != get_newest_revision():
            return [f"schema {revision}, this release writes {get_newest_revision()}"]
        if connection.execute(select(chain.c.params)).scalar_one_or_none() != spec.params_bytes:
            return ["the database holds another chain"]
        # Each step trusts what the one before it has found sound.
        return (
            [*_check_file(connection)]
            or [*_check_tree(connection)]
            or [*_check_blocks(connection, spec), *_check_accounts(connection, spec)]
        )


def back_up_database(path: Path, target: Path) -> None:
    """Copy the database as it stands at one moment into one new file, which appears whole or not at all.

    A node may have it open, and goes on. Raises StoreError where it cannot be read or copied or the target
    exists, and OSError.
    """
    if target.exists():
        raise StoreError(f"{target} exists; a backup overwrites nothing")
    draft = target.with_name(f"{target.name}.part")
    draft.unlink(missing_ok=True)
    try:
        with closing(build_inspector(path, _BUSY_TIMEOUT_SECONDS).raw_connection()) as connection:
            cursor = connection.cursor()
            # The file itself is opened read-only; this would forbid to write the copy as well.
            cursor.execute("PRAGMA query_only=OFF")
            cursor.execute("VACUUM INTO ?", (str(draft),))
    except sqlite3.Error as error:
        draft.unlink(missing_ok=True)
        raise StoreError(f"{path} was not copied to {target}: {error}") from error
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    try:
        # A rename would replace a file that was made meanwhile.
        os.link(draft, target)
    except FileExistsError as error:
        raise StoreError(f"{target} exists; a backup overwrites nothing") from error
    finally:
        draft.unlink()


def upgrade_database(path: Path) -> str:
    """Bring a database that no node has open to the newest schema.

    Returns its revision. Raises StoreError.
    """
    if not path.exists():
        raise StoreError(f"there is no database at {path}")
    lock = take_process_lock(path)
    try:
        upgrade_schema(path, _BUSY_TIMEOUT_SECONDS)
    finally:
        os.close(lock)
    return get_newest_revision()


def _check_file(connection: Connection) -> Iterator[str]:
    """What SQLite itself finds wrong, and rows that belong to no block."""
    for (line,) in connection.exec_driver_sql("PRAGMA integrity_check"):
        if line != "ok":
            yield f"the file is damaged: {line}"
    for table, row, *_ in connection.exec_driver_sql("PRAGMA foreign_key_check"):
        yield f"row {row} of {table} belongs to no block"


def _check_tree(connection: Connection) -> Iterator[str]:
    """Whether every block stands on its parent, and the active ones lead from genesis to the fork choice."""
    parent = blocks.alias("parent")
    sound = exists().where(
        parent.c.block_id == blocks.c.parent,
        parent.c.arrival < blocks.c.arrival,
        parent.c.height == blocks.c.height - 1,
        parent.c.active | not_(blocks.c.active),
    )
    query = select(blocks.c.block_id).where(blocks.c.arrival > 0, ~sound)
    for block_id in connection.execute(query).scalars():
        yield f"block {block_id.hex()}: the parent is not stored before it, or not active as it is"
    best = connection.execute(
        select(blocks).order_by(blocks.c.chain_work.desc(), blocks.c.arrival).limit(1)
    ).one_or_none()
    active = select(func.count(), func.max(blocks.c.height)).where(blocks.c.active)
    if best is None:
        yield "there is no block, not even genesis"
    elif not best.active or tuple(connection.execute(active).one()) != (best.height + 1, best.height):
        yield f"the tip is not {best.block_id.hex()}, which has the most work and came first"


def _check_blocks(connection: Connection, spec: ChainSpec) -> Iterator[str]:
    """Every stored block in order of arrival: parents come before their children."""
    view = View(connection, spec)
    arrivals = connection.execute(select(blocks.c.arrival).order_by(blocks.c.arrival)).scalars().all()
    for expected, arrival in enumerate(arrivals):
        row = connection.execute(select_blocks().where(blocks.c.arrival == arrival)).one()
        try:
            record = to_block(row)
            columns = (row.block_id, row.parent, row.height, row.miner)
            for problem in _check_block(view, record, columns, expected):
                yield f"block {row.block_id.hex()}: {problem}"
        except (ConsensusError, ValueError, TypeError) as error:
            yield f"block {row.block_id.hex()}: {error}"


def _check_block(
    view: View, record: BlockRecord, columns: tuple[Hash32, Hash32, int, bytes], expected: int
) -> Iterator[str]:
    header = record.header
    if columns != (header.block_id, header.parent, header.height, header.miner):
        yield "the columns are not those of the header"
    if record.arrival != expected:
        yield f"arrival {record.arrival}, expected {expected}"
    if record.height == 0:
        if header != view.spec.genesis or (record.work, record.chain_work) != (0, 0):
            yield "not the chain's genesis"
        return
    parent = view.get_block(header.parent)
    if parent is None:
        yield "the header names another parent"
        return
    yield from _check_work(view, record, parent)
    yield from _check_contents(view, record)
    yield from _check_witnesses(view, record, parent)


def _check_work(view: View, record: BlockRecord, parent: BlockRecord) -> Iterator[str]:
    """The header by its parent and grandparent, and the work that it counts."""
    grandparent = view.get_block(parent.header.parent)
    timestamp = None if grandparent is None else grandparent.header.timestamp
    check_header(view.spec, record.header, parent.header, timestamp)
    rung = get_required_rung(view.spec.params, record.header, parent.header.timestamp)
    if (record.work, record.chain_work) != (rung.work, parent.chain_work + rung.work):
        yield f"work {record.work} and chain work {record.chain_work} are wrong"


def _check_contents(view: View, record: BlockRecord) -> Iterator[str]:
    """The transfers by their root, their columns, and what they do to the accounts of the branch."""
    query = select(transactions).where(transactions.c.block == record.arrival)
    rows = view.connection.execute(query.order_by(transactions.c.position)).all()
    transfers = tuple(to_transfer(row.signed) for row in rows)
    block = Block(record.header, transfers, None)
    check_transactions_root(block)
    if (record.transaction_count, record.fees) != (len(transfers), compute_fees(transfers)):
        yield "the number of transfers or their fees are wrong"
    for place, (row, signed) in enumerate(zip(rows, transfers, strict=True)):
        transfer = signed.transfer
        columns = (row.position, row.height, row.tx_id, row.sender, row.recipient)
        if columns != (place, record.height, signed.tx_id, transfer.sender, transfer.recipient):
            yield f"the columns of transfer {place} are not its own"
    if _read_changes(view.connection, record) != compute_changes(view.connection, view.spec, block):
        yield "the changes of accounts are not those of its transfers"


def _read_changes(connection: Connection, record: BlockRecord) -> list[AccountChange]:
    query = select(account_changes).where(
        account_changes.c.block == record.arrival, account_changes.c.height == record.height
    )
    return [
        AccountChange(
            row.key,
            Account(row.balance_before, row.nonce_before),
            Account(row.balance_after, row.nonce_after),
        )
        for row in connection.execute(query.order_by(account_changes.c.key))
    ]


def _check_witnesses(view: View, record: BlockRecord, parent: BlockRecord) -> Iterator[str]:
    """The served witness, every kept one by its hash, and the commitment to the parent's."""
    rows = view.connection.execute(select(witnesses).where(witnesses.c.block == record.arrival)).all()
    if record.witness_id not in {row.witness_id for row in rows}:
        yield "the witness that it serves was never verified"
    for row in rows:
        if row.witness is None:
            continue
        witness = decode_witness(row.witness, view.spec.limits)
        counts = (witness.train_correct, witness.eval_correct)
        if (witness.witness_id, *counts) != (row.witness_id, row.train_correct, row.eval_correct):
            yield f"witness {row.witness_id.hex()} is not what its columns say"
        check_claims(
            view.spec.dataset,
            get_required_rung(view.spec.params, record.header, parent.header.timestamp),
            witness,
        )
    commitment = record.header.parent_witness
    if parent.height > 0 and not view.is_witness_verified(parent.block_id, commitment):
        yield "the witness of the parent that it commits to was never verified"
    if record.active and parent.height > 0 and parent.witness_id != commitment:
        yield "its parent serves another witness than the one that it commits to"


def _check_accounts(connection: Connection, spec: ChainSpec) -> Iterator[str]:
    """Every change begins where the one before it ended, genesis first; the last ones are the accounts."""
    replayed = dict(spec.genesis_accounts)
    query = select(account_changes).join(blocks, blocks.c.arrival == account_changes.c.block)
    for row in connection.execute(query.where(blocks.c.active).order_by(account_changes.c.height)):
        if replayed.get(row.key, Account()) != Account(row.balance_before, row.nonce_before):
            yield f"at height {row.height} the account {row.key.hex()} is not what its last change left"
        replayed[row.key] = Account(row.balance_after, row.nonce_after)
    found = {row.key: to_account(row) for row in connection.execute(select(accounts))}
    if found != {key: account for key, account in replayed.items() if account != Account()}:
        yield "the accounts are not those of the active chain"
