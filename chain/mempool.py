"""Transfers that wait for a block: what this node takes, keeps over a restart and offers to miners.

Reading never waits for the disk. A credit that still waits itself cannot be spent here: every transfer kept
is one that its sender's account at the tip pays for, after the sender's own earlier ones.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from sqlalchemy import ColumnElement, Connection, bindparam, delete, insert, select

from chain.chain import Chain
from chain.errors import PoolCode, PoolRefusal
from chain.records import Commit
from chain.rows import to_transfer
from chain.selection import PoolEntry, select_entries
from chain.store import Store
from chain.tables import mempool
from chain.view import View
from consensus.encoding import Hash32
from consensus.errors import Code, Duplicate, RuleViolation
from consensus.keys import VerifySignature
from consensus.ledger import Account, check_transfer
from consensus.transaction import SignedTransfer, check_transfer_form, encode_signed

Queue = dict[int, PoolEntry]
"""One sender's waiting transfers by nonce, rising."""


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
        self._store = store
        self._spec = chain.spec
        self._verify_signature = verify_signature
        self._limits = limits or MempoolLimits()
        # Changes are serial and go to the disk first; only the step in memory takes the readers' lock.
        self._change_lock = threading.Lock()
        self._lock = threading.Lock()
        self._entries: dict[Hash32, PoolEntry] = {}
        self._queues: dict[bytes, Queue] = {}
        # Of every sender with a queue, at the last tip that was looked at.
        self._account_nonces: dict[bytes, int] = {}
        self._next_sequence = 0
        self._load()

    @property
    def size(self) -> int:
        """Transfers that wait."""
        return len(self._entries)

    def add(self, signed: SignedTransfer) -> Hash32:
        """Take a transfer and return its id.

        Raises Duplicate (it waits already), RuleViolation as `check_transfer_form` and `check_transfer` do,
        PoolRefusal, StoreError.
        """
        check_transfer_form(signed, self._verify_signature)
        tx_id = signed.tx_id
        with self._change_lock:
            if tx_id in self._entries:
                raise Duplicate(Code.DUPLICATE, tx_id.hex())
            with self._store.read() as view:
                account = view.get_account(signed.transfer.sender)
            self._check_takeable(signed, account)
            victim = self._choose_victim(signed, account)
            entry = PoolEntry(self._next_sequence, tx_id, signed)
            self._change([] if victim is None else [victim], [entry])
            self._account_nonces[entry.sender] = account.nonce
            if victim is not None and victim.sender not in self._queues:
                del self._account_nonces[victim.sender]
        return tx_id

    def get(self, tx_id: Hash32) -> SignedTransfer | None:
        """The waiting transfer of that id."""
        entry = self._entries.get(tx_id)
        return None if entry is None else entry.signed

    def get_next_nonce(self, key: bytes) -> int:
        """The nonce for a key's next transfer: its account's, then past what waits without a gap."""
        with self._store.read() as view:
            nonce = view.get_account(key).nonce
        with self._lock:
            queue = self._queues.get(key, {})
            while nonce in queue:
                nonce += 1
        return nonce

    def list(self, cursor: int | None, limit: int) -> tuple[tuple[SignedTransfer, ...], int | None]:
        """Waiting transfers in order of arrival behind a cursor, and the cursor of the next page."""
        with self._lock:
            behind = (e for e in self._entries.values() if cursor is None or e.sequence > cursor)
            page = tuple(islice(behind, limit + 1))
        following = page[limit - 1].sequence if 0 < limit < len(page) else None
        return tuple(entry.signed for entry in page[:limit]), following

    def select(self, max_count: int, view: View | None = None) -> tuple[SignedTransfer, ...]:
        """Transfers that are valid in this order in a child of the tip, dearer senders first.

        With `view`, the tip is that snapshot's: a template takes its parent from the same view.
        """
        if view is None:
            with self._store.read() as snapshot:
                return self.select(max_count, snapshot)
        with self._lock:
            queues = {sender: tuple(queue.values()) for sender, queue in self._queues.items()}
        count = min(max_count, self._spec.params.max_transactions)
        accounts = view.get_accounts(queues)
        return tuple(select_entries(queues, accounts, view.get_next_payout(), self._spec.chain_id, count))

    def apply(self, commit: Commit) -> None:
        """Follow a commit: drop what was mined or can no longer be paid, take back what was disconnected.

        To be called before the next commit (node.importing takes care of that): what that one gave back
        meanwhile would be lost.
        """
        if commit.status == "side":
            return
        with self._change_lock, self._store.read() as view:
            self._refresh(view)

    def _load(self) -> None:
        """Take back what waited before a restart; the tip may have moved past some of it."""
        with self._change_lock, self._store.read() as view:
            self._remember([], _read_entries(view, mempool.c.sequence >= 0))
            self._refresh(view)

    def _refresh(self, view: View) -> None:
        """Keep what the accounts of the snapshot allow, of what waits and of what the chain gave back."""
        returned = _read_entries(view, mempool.c.sequence < 0)
        fresh = [replace(entry, sequence=self._next_sequence + place) for place, entry in enumerate(returned)]
        queues = _sort_queues([*fresh, *self._entries.values()])
        accounts = view.get_accounts(queues)
        kept = {
            entry.tx_id
            for sender, queue in queues.items()
            for entry in self._keep_valid(queue, accounts[sender])
        }
        waiting = [entry for entry in self._entries.values() if entry.tx_id in kept]
        added = [entry for entry in fresh if entry.tx_id in kept]
        fitting = {entry.tx_id for entry in [*waiting, *added][: self._limits.max_count]}
        self._change(
            [entry for entry in self._entries.values() if entry.tx_id not in fitting],
            [entry for entry in added if entry.tx_id in fitting],
            returned,
        )
        self._account_nonces = {sender: accounts[sender].nonce for sender in self._queues}

    def _check_takeable(self, signed: SignedTransfer, account: Account) -> None:
        """Whether the sender's account and its waiting transfers allow this one."""
        transfer = signed.transfer
        _spend(Account(account.balance, transfer.nonce), signed, self._spec.chain_id)
        if transfer.nonce < account.nonce:
            raise RuleViolation(Code.WRONG_NONCE, f"nonce {transfer.nonce}, expected {account.nonce}")
        if transfer.nonce >= account.nonce + self._limits.max_nonce_ahead:
            raise PoolRefusal(PoolCode.NONCE_GAP_TOO_LARGE, f"nonce {transfer.nonce} after {account.nonce}")
        queue = self._queues.get(transfer.sender, {})
        if transfer.nonce in queue:
            raise PoolRefusal(PoolCode.NONCE_TAKEN, f"nonce {transfer.nonce}")
        if len(queue) >= self._limits.max_per_sender:
            raise PoolRefusal(PoolCode.SENDER_QUEUE_FULL, f"{len(queue)} transfers wait")
        waiting = {nonce: entry.signed for nonce, entry in queue.items()} | {transfer.nonce: signed}
        rest = account
        for nonce in sorted(waiting):
            rest = _spend(Account(rest.balance, nonce), waiting[nonce], self._spec.chain_id)

    def _keep_valid(self, queue: Queue, account: Account) -> Iterable[PoolEntry]:
        """The entries of one sender that its account still pays for, within the limits."""
        last_nonce = account.nonce + self._limits.max_nonce_ahead - 1
        in_reach = [entry for nonce, entry in queue.items() if account.nonce <= nonce <= last_nonce]
        rest = account
        for entry in in_reach[: self._limits.max_per_sender]:
            try:
                waiting = Account(rest.balance, entry.nonce)
                rest = _spend(waiting, entry.signed, self._spec.chain_id)
            except RuleViolation:
                continue
            yield entry

    def _choose_victim(self, signed: SignedTransfer, account: Account) -> PoolEntry | None:
        """What must go to make room, None where there is room. Only a sender's last one: no gaps arise.

        What waits behind a missing nonce pays no fee before that comes: it is no match for what can be mined.
        """
        if len(self._entries) < self._limits.max_count:
            return None
        sender, nonce = signed.transfer.sender, signed.transfer.nonce
        if any(missing not in self._queues.get(sender, {}) for missing in range(account.nonce, nonce)):
            raise PoolRefusal(PoolCode.MEMPOOL_FULL)
        others = [key for key in self._queues if key != sender]
        gapped = [key for key in others if self._has_gap(key)]
        tails = [self._queues[key][max(self._queues[key])] for key in gapped or others]
        cheapest = min(tails, key=lambda entry: (entry.fee, -entry.sequence), default=None)
        if cheapest is None or (not gapped and cheapest.fee >= signed.transfer.fee):
            raise PoolRefusal(PoolCode.MEMPOOL_FULL)
        return cheapest

    def _has_gap(self, sender: bytes) -> bool:
        """Whether the last of a sender's transfers waits for one that is not here."""
        queue = self._queues[sender]
        return max(queue) - self._account_nonces[sender] + 1 > len(queue)

    def _change(
        self, removed: Sequence[PoolEntry], added: Sequence[PoolEntry], returned: Sequence[PoolEntry] = ()
    ) -> None:
        """Change the disk in one transaction, then memory; what the chain `returned` is settled by that."""
        # What is added may lie there as returned, even where a client hands it in before `apply` comes to it.
        gone = {entry.tx_id for entry in (*removed, *added, *returned)}
        if not gone:
            return
        with self._store.write() as connection:
            _write(connection, gone, added)
        self._remember(removed, added)

    def _remember(self, removed: Sequence[PoolEntry], added: Sequence[PoolEntry]) -> None:
        with self._lock:
            for entry in removed:
                del self._entries[entry.tx_id]
                del self._queues[entry.sender][entry.nonce]
            for entry in added:
                self._entries[entry.tx_id] = entry
                self._queues.setdefault(entry.sender, {})[entry.nonce] = entry
                self._next_sequence = entry.sequence + 1
            for sender in {entry.sender for entry in (*removed, *added)}:
                queue = self._queues.pop(sender)
                if queue:
                    self._queues[sender] = dict(sorted(queue.items()))


def _spend(sender: Account, signed: SignedTransfer, chain_id: Hash32) -> Account:
    """The sender's account behind a transfer. Raises RuleViolation as `check_transfer`."""
    transfer = signed.transfer
    check_transfer(transfer, sender, chain_id)
    regained = transfer.amount if transfer.recipient == transfer.sender else 0
    return Account(sender.balance - transfer.amount - transfer.fee + regained, sender.nonce + 1)


def _sort_queues(entries: Iterable[PoolEntry]) -> dict[bytes, Queue]:
    """Entries by sender and rising nonce; of two with one nonce, the first given."""
    queues: dict[bytes, Queue] = {}
    for entry in entries:
        queues.setdefault(entry.sender, {}).setdefault(entry.nonce, entry)
    return {sender: dict(sorted(queue.items())) for sender, queue in queues.items()}


def _read_entries(view: View, condition: ColumnElement[bool]) -> list[PoolEntry]:
    rows = view.connection.execute(select(mempool).where(condition).order_by(mempool.c.sequence))
    return [PoolEntry(row.sequence, row.tx_id, to_transfer(row.signed)) for row in rows]


def _write(connection: Connection, gone: Iterable[Hash32], added: Sequence[PoolEntry]) -> None:
    forget = delete(mempool).where(mempool.c.tx_id == bindparam("gone"))
    connection.execute(forget, [{"gone": tx_id} for tx_id in gone])
    if added:
        rows = [
            {"sequence": entry.sequence, "tx_id": entry.tx_id, "signed": encode_signed(entry.signed)}
            for entry in added
        ]
        connection.execute(insert(mempool), rows)
