"""The chain itself: pre-verification, commit and fork choice (protocol §9, §10).

The evaluation of a witness lies between `pre_verify` and `commit` and is the caller's; so is fetching what is
missing. Statements are chain.writer's, the arithmetic of accounts is chain.ledger's.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Connection

from chain.branches import get_branch
from chain.condemned import CondemnedIds
from chain.ledger import AccountChange, compute_changes
from chain.records import BlockRecord, Candidate, Commit
from chain.store import Store
from chain.view import View
from chain.writer import (
    connect,
    disconnect,
    get_record,
    write_block,
    write_changes,
    write_served_witness,
    write_witness,
)
from consensus.block import Block, Header, Witness, decode_block
from consensus.difficulty import get_required_rung
from consensus.encoding import Hash32
from consensus.errors import BadDelivery, Code, Duplicate, NotYet, RuleViolation
from consensus.keys import VerifySignature
from consensus.params import ChainSpec
from consensus.rules import (
    check_claimed_work,
    check_claims,
    check_clock,
    check_header,
    check_parent_witness,
    check_transactions_root,
    check_transfer_forms,
)

OnStage = Callable[[str], None]
"""Told each stage of a commit: commit-begin, commit-block-written, commit-accounts-written, commit-done."""

_log = logging.getLogger("freezenet.chain")


@dataclass(frozen=True, slots=True)
class _Ancestry:
    """What the store knows of a block's parent."""

    parent: BlockRecord
    grandparent_timestamp: int | None
    needs_witness: Hash32 | None


class Chain:
    """The one writer of blocks; safe to call from several threads."""

    def __init__(
        self,
        store: Store,
        spec: ChainSpec,
        verify_signature: VerifySignature,
        on_stage: OnStage | None = None,
    ) -> None:
        self._store = store
        self.spec = spec
        self._verify_signature = verify_signature
        self._on_stage = on_stage
        self._condemned = CondemnedIds()
        self._lock = threading.Lock()
        with store.read() as view:
            self._tip = view.get_tip()

    @property
    def tip(self) -> BlockRecord:
        """The tip, from memory."""
        return self._tip

    def pre_verify(self, raw: bytes, now_seconds: int, claimed_chain_work: int | None = None) -> Candidate:
        """Everything of §10 before the solution check, in order; takes no lock.

        `claimed_chain_work` is that of the heaviest known header descending from the block. Transfers meet
        the ledger here only where the parent is the tip. Condemns the id where it raises RuleViolation.
        Raises ConsensusError.
        """
        if len(raw) > self.spec.limits.max_block_bytes:
            raise BadDelivery(Code.TOO_LARGE, f"{len(raw)} bytes")
        block = decode_block(raw, self.spec.limits)
        block_id = block.header.block_id
        with self._condemning(block_id):
            ancestry = self._find_ancestry(block.header, block_id)
            candidate = self._check_header(block, block_id, raw, ancestry, now_seconds)
            self._check_contents(candidate, claimed_chain_work)
        return candidate

    def commit(self, candidate: Candidate, parent_witness: Witness | None = None) -> Commit:
        """Store a block whose witness was found valid, and move the tip where its branch has more work.

        `parent_witness` is the evaluated witness that `candidate.needs_witness` names. Raises Duplicate,
        RuleViolation where the ledger of its own branch refuses it (the id is condemned),
        NotYet(MISSING_PARENT_WITNESS), StoreError.
        """
        block_id = candidate.block_id
        with self._lock, self._condemning(block_id):
            self._check_not_condemned(block_id)
            with self._store.write() as connection:
                self._enter_stage("commit-begin", block_id)
                commit = self._write(connection, candidate, parent_witness)
            # Memory follows the disk, never the other way round.
            if commit.status == "active":
                self._tip = commit.record
        self._enter_stage("commit-done", block_id)
        return commit

    def check_commit(self, candidate: Candidate, parent_witness: Witness | None = None) -> None:
        """Whether `commit` would take the block; stores nothing. Raises as `commit` does."""
        with self._condemning(candidate.block_id), self._store.read() as view:
            self._check_not_condemned(candidate.block_id)
            self._check_place(view, candidate, parent_witness)

    def is_known(self, block_id: Hash32) -> bool:
        """Whether the block is stored, that is fully verified here."""
        with self._store.read() as view:
            return view.is_stored(block_id)

    def is_condemned(self, block_id: Hash32) -> bool:
        """Whether the id was found invalid here and is still remembered."""
        return self._condemned.get(block_id) is not None

    def condemn(self, block_id: Hash32, code: Code) -> None:
        """Remember an id as invalid. Bounded: the oldest are forgotten, and would be found invalid again."""
        self._condemned.add(block_id, code)

    @contextmanager
    def _condemning(self, block_id: Hash32) -> Iterator[None]:
        try:
            yield
        except RuleViolation as violation:
            self.condemn(block_id, violation.code)
            raise

    def _check_not_condemned(self, block_id: Hash32) -> None:
        code = self._condemned.get(block_id)
        if code is not None:
            raise RuleViolation(Code.CONDEMNED, f"found before: {code}")

    def _find_ancestry(self, header: Header, block_id: Hash32) -> _Ancestry:
        """Whether the block is new, and what is known of its parent; one snapshot, and short."""
        with self._store.read() as view:
            if view.is_stored(block_id):
                raise Duplicate(Code.DUPLICATE, block_id.hex())
            self._check_not_condemned(block_id)
            if self.is_condemned(header.parent):
                raise RuleViolation(Code.INVALID_ANCESTOR, header.parent.hex())
            parent = view.get_block(header.parent)
            if parent is None:
                raise NotYet(Code.UNKNOWN_PARENT, header.parent.hex())
            grandparent = view.get_block(parent.header.parent)
            return _Ancestry(
                parent,
                None if grandparent is None else grandparent.header.timestamp,
                _get_missing_witness(view, header, parent),
            )

    def _check_header(
        self, block: Block, block_id: Hash32, raw: bytes, ancestry: _Ancestry, now_seconds: int
    ) -> Candidate:
        """The checks of the header alone."""
        header, parent = block.header, ancestry.parent
        check_header(self.spec, header, parent.header, ancestry.grandparent_timestamp)
        check_clock(self.spec.params, header, now_seconds)
        rung = get_required_rung(self.spec.params, header, parent.header.timestamp)
        return Candidate(
            block=block,
            block_id=block_id,
            raw=raw,
            parent=parent,
            rung=rung,
            work=rung.work,
            chain_work=parent.chain_work + rung.work,
            needs_witness=ancestry.needs_witness,
        )

    def _check_contents(self, candidate: Candidate, claimed_chain_work: int | None) -> None:
        """Claims, put-off, transfers, and the ledger where the parent is the tip."""
        block, tip = candidate.block, self._tip
        assert block.witness is not None, "only a block of height 0 has none, and the height was checked"
        check_claims(self.spec.dataset, candidate.rung, block.witness)
        check_claimed_work(max(candidate.chain_work, claimed_chain_work or 0), tip.chain_work, tip.work)
        check_transactions_root(block)
        check_transfer_forms(block.transfers, self._verify_signature)
        with self._store.read() as view:
            if view.get_tip().block_id == block.header.parent:
                compute_changes(view.connection, self.spec, block)

    def _write(self, connection: Connection, candidate: Candidate, parent_witness: Witness | None) -> Commit:
        """The statements of a commit, within its transaction."""
        view, parent, given = View(connection, self.spec), candidate.parent, parent_witness
        changes = self._check_place(view, candidate, given)
        if given is not None and not view.is_witness_verified(parent.block_id, given.witness_id):
            write_witness(connection, parent.arrival, given)
        arrival = write_block(connection, candidate)
        write_changes(connection, arrival, candidate.block.header.height, changes)
        self._enter_stage("commit-block-written", candidate.block_id)
        commit = self._apply_fork_choice(connection, candidate, arrival)
        self._enter_stage("commit-accounts-written", candidate.block_id)
        return commit

    def _check_place(self, view: View, candidate: Candidate, given: Witness | None) -> list[AccountChange]:
        """What is left of §10 after the evaluation; returns what the block does to the accounts."""
        if view.is_stored(candidate.block_id):
            raise Duplicate(Code.DUPLICATE, candidate.block_id.hex())
        changes = compute_changes(view.connection, self.spec, candidate.block)
        _check_parent_witness(view, candidate, given)
        return changes

    def _apply_fork_choice(self, connection: Connection, candidate: Candidate, arrival: int) -> Commit:
        """Move the tip to the new block where its chain work is strictly greater; a tie keeps the first."""
        branch = get_branch(connection, candidate.block_id)
        if candidate.chain_work <= self._tip.chain_work:
            if branch.fork_height < candidate.parent.height:
                write_served_witness(connection, candidate.block.header)
            return Commit(get_record(connection, arrival), "side", (), ())
        disconnected = disconnect(connection, branch.fork_height)
        connected = connect(connection, [branch.side[height] for height in sorted(branch.side)])
        return Commit(connected[-1], "active", disconnected, connected)

    def _enter_stage(self, stage: str, block_id: Hash32) -> None:
        _log.debug("%s %s", stage, block_id.hex())
        if self._on_stage is not None:
            self._on_stage(stage)


def _check_parent_witness(view: View, candidate: Candidate, given: Witness | None) -> None:
    """The commitment to the parent's witness; `given` was evaluated for this block's sake."""
    header, parent = candidate.block.header, candidate.parent
    if given is not None and given.witness_id != header.parent_witness:
        raise ValueError("the parent's witness given is not the one that the header commits to")
    missing = _get_missing_witness(view, header, parent)
    if missing is not None and given is None:
        raise NotYet(Code.MISSING_PARENT_WITNESS, missing.hex())
    check_parent_witness(header, parent.header, verifies=True)


def _get_missing_witness(view: View, header: Header, parent: BlockRecord) -> Hash32 | None:
    """The committed witness of the parent where it was never verified here; genesis has none to miss."""
    if parent.height == 0 or view.is_witness_verified(parent.block_id, header.parent_witness):
        return None
    return header.parent_witness
