"""Everything that is read from one snapshot of the database."""

from __future__ import annotations

from collections.abc import Sequence

from chain.records import AddressCursor, BlockRecord, TransactionRecord
from consensus.block import Header, Witness
from consensus.encoding import Hash32, Height
from consensus.ledger import Account
from consensus.transaction import SignedTransfer


class View:
    """One consistent read-only snapshot, made by `Store.read`."""

    def get_tip(self) -> BlockRecord:
        """The active block with the greatest height."""
        raise NotImplementedError

    def get_block(self, block_id: Hash32) -> BlockRecord | None:
        """The stored block of that id, active or not."""
        raise NotImplementedError

    def get_active_block(self, height: Height) -> BlockRecord | None:
        """The active block of that height."""
        raise NotImplementedError

    def get_tips(self) -> list[BlockRecord]:
        """Blocks without children, the active tip first, then by chain work, the greatest first."""
        raise NotImplementedError

    def get_children(self, block_id: Hash32) -> list[BlockRecord]:
        """The stored children of a block, in order of arrival."""
        raise NotImplementedError

    def list_blocks(self, before_height: Height | None, limit: int) -> list[BlockRecord]:
        """Active blocks below a height (None: from the tip), newest first."""
        raise NotImplementedError

    def get_transfers(self, block_id: Hash32) -> tuple[SignedTransfer, ...]:
        """The transfers of a stored block, in block order."""
        raise NotImplementedError

    def get_witness(self, block_id: Hash32, witness_id: Hash32 | None = None) -> Witness | None:
        """The witness that this node serves for a block, or the verified one of that id; None if not held."""
        raise NotImplementedError

    def get_raw_block(self, block_id: Hash32) -> bytes | None:
        """The canonical bytes of a stored block; None if it is not stored or its witness is pruned."""
        raise NotImplementedError

    def get_account(self, key: bytes) -> Account:
        """The account of a key at the tip; the empty account for a key never seen."""
        raise NotImplementedError

    def get_account_at(self, block_id: Hash32, key: bytes) -> Account:
        """The account of a key after any stored block, on its own branch. Raises KeyError for an unknown block."""
        raise NotImplementedError

    def get_immature(self, key: bytes) -> int:
        """Rewards and fees that active blocks of a miner earned and that are not credited yet."""
        raise NotImplementedError

    def get_transaction(self, tx_id: Hash32) -> TransactionRecord | None:
        """The transfer of that id on the active chain."""
        raise NotImplementedError

    def list_address_transactions(
        self, key: bytes, cursor: AddressCursor | None, limit: int
    ) -> tuple[list[TransactionRecord], AddressCursor | None]:
        """Active transfers from or to a key, newest first, and the cursor of the next page."""
        raise NotImplementedError

    def list_address_blocks(self, key: bytes, before_height: Height | None, limit: int) -> list[BlockRecord]:
        """Active blocks that credit a key, below a height (None: from the tip), newest first."""
        raise NotImplementedError

    def get_locator(self, from_id: Hash32 | None = None) -> list[Hash32]:
        """Ids from a stored block (None: the tip) back to genesis, ever sparser: what `get_headers_after` takes."""
        raise NotImplementedError

    def get_headers_after(self, locator: Sequence[Hash32], limit: int = 2_000) -> list[Header]:
        """Active headers above the highest active block that the locator names, lowest first."""
        raise NotImplementedError

    def compute_confirmations(self, record: BlockRecord) -> int:
        """How many-fold an active block is confirmed (§9); 0 on a side branch."""
        raise NotImplementedError
