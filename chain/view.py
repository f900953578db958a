"""Everything that is read from one snapshot of the database."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, exists, func, select

from chain.branches import get_accounts_at, get_branch, get_tip_accounts
from chain.ledger import get_matured_payout
from chain.records import AddressCursor, BlockRecord, TransactionRecord
from chain.rows import select_blocks, to_block, to_transfer
from chain.tables import blocks, transactions, witnesses
from consensus.block import Block, Header, Witness, decode_header, decode_witness, encode_block
from consensus.difficulty import FINALITY_WINDOW, compute_confirmations
from consensus.encoding import U32_MAX, Hash32, Height
from consensus.ledger import Account, Payout, compute_reward
from consensus.params import ChainSpec
from consensus.transaction import SignedTransfer

_DENSE_LOCATOR = 10
MAX_HEADERS = 2_000


class View:
    """One consistent read-only snapshot, made by `Store.read`."""

    def __init__(self, connection: Connection, spec: ChainSpec) -> None:
        self.connection = connection
        self.spec = spec

    # Blocks

    def get_tip(self) -> BlockRecord:
        """The active block with the greatest height."""
        return self._get_blocks(_select_active().limit(1))[0]

    def get_block(self, block_id: Hash32) -> BlockRecord | None:
        """The stored block of that id, active or not."""
        return self._get_one_block(blocks.c.block_id == block_id)

    def is_stored(self, block_id: Hash32) -> bool:
        """Whether the block is stored, that is fully verified here."""
        query = select(exists().where(blocks.c.block_id == block_id))
        return bool(self.connection.execute(query).scalar_one())

    def get_active_block(self, height: Height) -> BlockRecord | None:
        """The active block of that height."""
        if not 0 <= height <= U32_MAX:
            return None
        return self._get_one_block(blocks.c.active & (blocks.c.height == height))

    def get_tips(self) -> list[BlockRecord]:
        """Blocks without children, the active tip first, then by chain work, the greatest first."""
        child = blocks.alias("child")
        childless = ~exists().where(child.c.parent == blocks.c.block_id)
        order = (blocks.c.active.desc(), blocks.c.chain_work.desc(), blocks.c.arrival)
        return self._get_blocks(select_blocks().where(childless).order_by(*order))

    def get_children(self, block_id: Hash32) -> list[BlockRecord]:
        """The stored children of a block, in order of arrival."""
        return self._get_blocks(select_blocks().where(blocks.c.parent == block_id).order_by(blocks.c.arrival))

    def list_blocks(self, before_height: Height | None, limit: int) -> list[BlockRecord]:
        """Active blocks below a height (None: from the tip), newest first."""
        return self._get_blocks(_below(_select_active(), before_height).limit(limit))

    def list_address_blocks(self, key: bytes, before_height: Height | None, limit: int) -> list[BlockRecord]:
        """Active blocks that credit a key, below a height (None: from the tip), newest first."""
        mined = _select_active().where(blocks.c.miner == key)
        return self._get_blocks(_below(mined, before_height).limit(limit))

    # Contents of blocks

    def get_transfers(self, block_id: Hash32) -> tuple[SignedTransfer, ...]:
        """The transfers of a stored block, in block order; none for a block that is not stored."""
        query = (
            select(transactions.c.signed)
            .join(blocks, blocks.c.arrival == transactions.c.block)
            .where(blocks.c.block_id == block_id)
            .order_by(transactions.c.position)
        )
        return tuple(to_transfer(signed) for signed in self.connection.execute(query).scalars())

    def get_witness(self, block_id: Hash32, witness_id: Hash32 | None = None) -> Witness | None:
        """The witness that this node serves for a block, or the verified one of that id; None if not held."""
        wanted = blocks.c.witness_id if witness_id is None else witness_id
        query = (
            select(witnesses.c.witness)
            .join(blocks, blocks.c.arrival == witnesses.c.block)
            .where(blocks.c.block_id == block_id, witnesses.c.witness_id == wanted)
        )
        data = self.connection.execute(query).scalar_one_or_none()
        return None if data is None else decode_witness(data, self.spec.limits)

    def is_witness_verified(self, block_id: Hash32, witness_id: Hash32) -> bool:
        """Whether a witness of that id was verified for a stored block, even if it is pruned since."""
        found = exists().where(
            witnesses.c.block == blocks.c.arrival,
            blocks.c.block_id == block_id,
            witnesses.c.witness_id == witness_id,
        )
        return bool(self.connection.execute(select(found)).scalar_one())

    def get_raw_block(self, block_id: Hash32, witness_id: Hash32 | None = None) -> bytes | None:
        """The canonical bytes of a stored block with the served witness, or with the verified one of that id.

        None if the block is not stored or the witness is not held.
        """
        record = self.get_block(block_id)
        if record is None:
            return None
        if record.height == 0:
            return encode_block(Block(record.header, (), None))
        witness = self.get_witness(block_id, witness_id)
        if witness is None:
            return None
        return encode_block(Block(record.header, self.get_transfers(block_id), witness))

    # Accounts

    def get_account(self, key: bytes) -> Account:
        """The account of a key at the tip; the empty account for a key never seen."""
        return get_tip_accounts(self.connection, [key])[key]

    def get_accounts(self, keys: Collection[bytes]) -> dict[bytes, Account]:
        """The accounts of keys at the tip; empty ones for keys never seen."""
        return get_tip_accounts(self.connection, keys)

    def get_account_at(self, block_id: Hash32, key: bytes) -> Account:
        """The account of a key after any stored block, on its own branch.

        Raises KeyError for an unknown block.
        """
        return get_accounts_at(self.connection, get_branch(self.connection, block_id), [key])[key]

    def get_next_payout(self) -> Payout | None:
        """What the next block on the tip credits before its transfers; None where nothing matures."""
        tip = self.get_tip()
        branch = get_branch(self.connection, tip.block_id)
        return get_matured_payout(self.connection, self.spec.params, branch, tip.height + 1)

    def get_immature(self, key: bytes) -> int:
        """Rewards and fees that active blocks of a miner earned and that are not credited yet."""
        params = self.spec.params
        lowest = max(1, self.get_tip().height - params.maturity + 1)
        query = select(blocks.c.height, blocks.c.fees).where(
            blocks.c.active, blocks.c.miner == key, blocks.c.height >= lowest
        )
        return sum(
            compute_reward(height, params.initial_reward, params.halving_interval) + fees
            for height, fees in self.connection.execute(query)
        )

    # Transactions

    def get_transaction(self, tx_id: Hash32) -> TransactionRecord | None:
        """The transfer of that id on the active chain."""
        found = self._list_transactions(transactions.c.tx_id == tx_id, None, 1)
        return found[0] if found else None

    def list_address_transactions(
        self, key: bytes, cursor: AddressCursor | None, limit: int
    ) -> tuple[list[TransactionRecord], AddressCursor | None]:
        """Active transfers from or to a key, newest first, and the cursor of the next page."""
        # One query for each side, so that each walks its index and stops; a self-transfer is in both.
        found = {
            (record.block.height, record.position): record
            for side in (transactions.c.sender, transactions.c.recipient)
            for record in self._list_transactions(side == key, cursor, limit + 1)
        }
        places = sorted(found, reverse=True)
        page = places[:limit]
        return [found[place] for place in page], page[-1] if page and len(places) > limit else None

    # Peers

    def get_locator(self, from_id: Hash32 | None = None) -> list[Hash32]:
        """Ids from a stored block (None: the tip) back to genesis, ever sparser.

        What `get_headers_after` takes. Raises KeyError for an unknown block.
        """
        start = self.get_tip() if from_id is None else self.get_block(from_id)
        if start is None:
            raise KeyError(from_id)
        branch = get_branch(self.connection, start.block_id)
        heights = _choose_locator_heights(start.height)
        arrivals = [branch.get_arrival(self.connection, height) for height in heights]
        query = select(blocks.c.arrival, blocks.c.block_id).where(blocks.c.arrival.in_(arrivals))
        ids = {row.arrival: row.block_id for row in self.connection.execute(query)}
        return [ids[arrival] for arrival in arrivals]

    def get_headers_after(self, locator: Sequence[Hash32], limit: int = MAX_HEADERS) -> list[Header]:
        """Active headers above the highest active block that the locator names, lowest first.

        From height 1 where it names none.
        """
        named = blocks.c.active & blocks.c.block_id.in_(list(locator))
        common = self.connection.execute(select(func.max(blocks.c.height)).where(named)).scalar()
        query = (
            select(blocks.c.header)
            .where(blocks.c.active, blocks.c.height > (common or 0))
            .order_by(blocks.c.height)
            .limit(limit)
        )
        return [decode_header(header) for header in self.connection.execute(query).scalars()]

    def compute_confirmations(self, record: BlockRecord) -> int:
        """How many-fold an active block is confirmed (§9); 0 on a side branch."""
        if not record.active:
            return 0
        tip = self.get_tip()
        recent = select(blocks.c.work).where(
            blocks.c.active, blocks.c.height > max(0, tip.height - FINALITY_WINDOW)
        )
        works = self.connection.execute(recent).scalars().all()
        return compute_confirmations(tip.chain_work - record.chain_work, works)

    def _get_blocks(self, query: Select[Any]) -> list[BlockRecord]:
        return [to_block(row) for row in self.connection.execute(query).all()]

    def _get_one_block(self, condition: ColumnElement[bool]) -> BlockRecord | None:
        row = self.connection.execute(select_blocks().where(condition)).one_or_none()
        return None if row is None else to_block(row)

    def _list_transactions(
        self, condition: ColumnElement[bool], cursor: AddressCursor | None, limit: int
    ) -> list[TransactionRecord]:
        place = (transactions.c.height, transactions.c.position)
        query = (
            select_blocks()
            .add_columns(transactions.c.signed, transactions.c.position)
            .join(transactions, transactions.c.block == blocks.c.arrival)
            .where(blocks.c.active, condition)
            .order_by(*(column.desc() for column in place))
            .limit(limit)
        )
        if cursor is not None:
            height, position = cursor
            query = query.where(
                (place[0] < height) | ((place[0] == height) & (place[1] < position)), place[0] <= height
            )
        rows = self.connection.execute(query).all()
        return [TransactionRecord(to_transfer(row.signed), to_block(row), row.position) for row in rows]


def _select_active() -> Select[Any]:
    """Active blocks, newest first."""
    return select_blocks().where(blocks.c.active).order_by(blocks.c.height.desc())


def _below(query: Select[Any], height: Height | None) -> Select[Any]:
    # No block is above the largest u32, and SQLite takes no integer beyond 64 bits.
    return query if height is None else query.where(blocks.c.height < max(0, min(height, U32_MAX)))


def _choose_locator_heights(height: Height) -> list[Height]:
    """The first few heights one by one, then at doubling steps, genesis last."""
    heights, step = [], 1
    while height > 0:
        heights.append(height)
        step = step * 2 if len(heights) > _DENSE_LOCATOR else 1
        height -= step
    return [*heights, 0]
