"""What the chain hands out: stored blocks and transactions, candidates, and the result of a commit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from consensus.block import Block, Header
from consensus.encoding import Hash32
from consensus.task import Rung
from consensus.transaction import SignedTransfer

BlockStatus = Literal["active", "side"]


@dataclass(frozen=True, slots=True)
class BlockRecord:
    """A stored block without its transfers and its witness; only fully checked blocks are stored."""

    block_id: Hash32
    """Id of the block."""
    header: Header
    """Its header."""
    work: int
    """rung.work of the rung that its witness met; 0 for genesis."""
    chain_work: int
    """Sum of the work of the block and all its ancestors."""
    arrival: int
    """Place in the order in which this node finished verifying; ties of chain work go to the lower."""
    transaction_count: int
    """Transfers of the block."""
    fees: int
    """Sum of their fees."""
    witness_id: Hash32 | None
    """Id of the witness that this node serves; an active child's commitment decides. None for genesis."""
    train_correct: int | None
    """Its count of right train records; None for genesis."""
    eval_correct: int | None
    """Its count of right eval records; None for genesis."""
    active: bool
    """Whether the block is on the chain with the most work."""

    @property
    def height(self) -> int:
        """Height of the block."""
        return self.header.height


@dataclass(frozen=True, slots=True)
class TransactionRecord:
    """A transfer of the active chain and where it stands."""

    signed: SignedTransfer
    """The transfer."""
    block: BlockRecord
    """The active block that holds it."""
    position: int
    """Its index among the block's transfers."""


AddressCursor = tuple[int, int]
"""(height, position) of the last transaction of a page; the next page starts below it."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A block that passed every check of §10 before its solution is looked at."""

    block: Block
    """The decoded block; it has a witness."""
    block_id: Hash32
    """Its id."""
    raw: bytes
    """The bytes it was decoded from."""
    parent: BlockRecord
    """Its parent, fully verified."""
    rung: Rung
    """What its witness must meet."""
    work: int
    """rung.work."""
    chain_work: int
    """The parent's chain work plus its own."""
    needs_witness: Hash32 | None
    """The committed witness of the parent where this node never verified it, else None."""


@dataclass(frozen=True, slots=True)
class Commit:
    """What a commit changed."""

    record: BlockRecord
    """The new block."""
    status: BlockStatus
    """Whether it became the tip or waits on a side branch."""
    disconnected: tuple[BlockRecord, ...]
    """Blocks that left the active chain, the old tip first."""
    connected: tuple[BlockRecord, ...]
    """Blocks that joined the active chain, the lowest first; the new tip last."""
