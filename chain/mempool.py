"""Transfers that wait for a block: what this node takes, keeps over a restart and offers to miners."""

from __future__ import annotations

from dataclasses import dataclass

from chain.chain import Chain
from chain.records import Commit
from chain.store import Store
from chain.view import View
from consensus.encoding import Hash32
from consensus.keys import VerifySignature
from consensus.transaction import SignedTransfer


@dataclass(frozen=True, slots=True)
class MempoolLimits:
    """How much a mempool holds."""

    max_count: int = 5_000
    """Transfers in all."""
    max_per_sender: int = 64
    """Transfers of one sender."""
    max_nonce_ahead: int = 64
    """Nonces are below the sender's next one plus this."""


class Mempool:
    """Waiting transfers; safe to call from several threads, persisted in the store."""

    def __init__(
        self,
        store: Store,
        chain: Chain,
        verify_signature: VerifySignature,
        limits: MempoolLimits | None = None,
    ) -> None:
        raise NotImplementedError

    @property
    def size(self) -> int:
        """Transfers that wait."""
        raise NotImplementedError

    def add(self, signed: SignedTransfer) -> Hash32:
        """Take a transfer and return its id.

        Raises Duplicate (it waits already), RuleViolation as `check_transfer_form` and `check_transfer` do, PoolRefusal,
        StoreError.
        """
        raise NotImplementedError

    def get(self, tx_id: Hash32) -> SignedTransfer | None:
        """The waiting transfer of that id."""
        raise NotImplementedError

    def list(self, cursor: int | None, limit: int) -> tuple[tuple[SignedTransfer, ...], int | None]:
        """Waiting transfers in order of arrival behind a cursor, and the cursor of the next page."""
        raise NotImplementedError

    def select(self, max_count: int, view: View | None = None) -> tuple[SignedTransfer, ...]:
        """Transfers that are valid in this order in a child of the tip, dearer senders first.

        With `view`, the tip is that snapshot's: a template takes its parent from the same view.
        """
        raise NotImplementedError

    def apply(self, commit: Commit) -> None:
        """Follow a commit: drop what was mined or can no longer be valid, take back what was disconnected."""
        raise NotImplementedError
