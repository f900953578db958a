"""Which waiting transfers go into a block, in which order: dear ones first, each sender's by nonce."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from consensus.encoding import Hash32
from consensus.errors import RuleViolation
from consensus.ledger import Account, Payout, apply_transfers
from consensus.transaction import SignedTransfer


@dataclass(frozen=True, slots=True)
class PoolEntry:
    """A waiting transfer."""

    sequence: int
    """Its place in the order of arrival."""
    tx_id: Hash32
    """Its id."""
    signed: SignedTransfer
    """The transfer."""

    @property
    def sender(self) -> bytes:
        """Key that pays."""
        return self.signed.transfer.sender

    @property
    def nonce(self) -> int:
        """The sender's nonce."""
        return self.signed.transfer.nonce

    @property
    def fee(self) -> int:
        """What a miner gets for it."""
        return self.signed.transfer.fee


def select_entries(
    queues: Mapping[bytes, Sequence[PoolEntry]],
    accounts: Mapping[bytes, Account],
    matured: Payout | None,
    chain_id: Hash32,
    max_count: int,
) -> list[SignedTransfer]:
    """Transfers that are valid in the order returned, in a block that credits `matured` first.

    `queues` holds each sender's entries by rising nonce, `accounts` every sender's account. The dearest head
    of all queues goes first; one that cannot be paid yet waits for a credit within the same block.
    """
    state = dict(accounts)

    def get_account(key: bytes) -> Account:
        return state.get(key, Account())

    state.update(apply_transfers(get_account, matured, (), chain_id))
    rest = {sender: deque(queue) for sender, queue in queues.items()}
    heads = [_rank(queue[0]) for queue in queues.values()]
    heapq.heapify(heads)
    selected: list[SignedTransfer] = []
    while heads and len(selected) < max_count:
        _, sequence, sender = heapq.heappop(heads)
        # A head is ranked anew with every credit, so an earlier rank may have taken it already.
        if not rest[sender] or rest[sender][0].sequence != sequence:
            continue
        signed = rest[sender][0].signed
        try:
            state.update(apply_transfers(get_account, None, (signed,), chain_id))
        except RuleViolation:
            continue
        selected.append(signed)
        rest[sender].popleft()
        for key in {sender, signed.transfer.recipient}:
            if rest.get(key):
                heapq.heappush(heads, _rank(rest[key][0]))
    return selected


def _rank(entry: PoolEntry) -> tuple[int, int, bytes]:
    return -entry.fee, entry.sequence, entry.sender
