"""The chain itself: pre-verification, commit and fork choice. The evaluation of a witness is the caller's."""

from __future__ import annotations

from collections.abc import Callable

from chain.records import BlockRecord, Candidate, Commit
from chain.store import Store
from consensus.block import Witness
from consensus.encoding import Hash32
from consensus.errors import Code
from consensus.keys import VerifySignature
from consensus.params import ChainSpec

OnStage = Callable[[str], None]
"""Told each stage of a commit: commit-begin, commit-block-written, commit-accounts-written, commit-done."""


class Chain:
    """The one writer of blocks; safe to call from several threads."""

    def __init__(
        self,
        store: Store,
        spec: ChainSpec,
        verify_signature: VerifySignature,
        on_stage: OnStage | None = None,
    ) -> None:
        raise NotImplementedError

    @property
    def tip(self) -> BlockRecord:
        """The tip, from memory."""
        raise NotImplementedError

    def pre_verify(self, raw: bytes, now_seconds: int, claimed_chain_work: int | None = None) -> Candidate:
        """Everything of §10 before the solution check, in order; takes no lock.

        `claimed_chain_work` is that of the heaviest known header descending from the block. The transfers meet the
        ledger here only where the parent is the tip. Condemns the id where it raises RuleViolation.
        Raises ConsensusError.
        """
        raise NotImplementedError

    def commit(self, candidate: Candidate, parent_witness: Witness | None = None) -> Commit:
        """Store a block whose witness was found valid, and move the tip where its branch has more work.

        `parent_witness` is the evaluated witness that `candidate.needs_witness` names. Raises Duplicate,
        RuleViolation where the ledger of its own branch refuses it (the id is condemned),
        NotYet(MISSING_PARENT_WITNESS), StoreError.
        """
        raise NotImplementedError

    def is_known(self, block_id: Hash32) -> bool:
        """Whether the block is stored, that is fully verified here."""
        raise NotImplementedError

    def is_condemned(self, block_id: Hash32) -> bool:
        """Whether the id was found invalid here and is still remembered."""
        raise NotImplementedError

    def condemn(self, block_id: Hash32, code: Code) -> None:
        """Remember an id as invalid. Bounded: the oldest are forgotten, and would be found invalid again."""
        raise NotImplementedError
