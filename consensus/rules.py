"""The checks of a block in the protocol's order, cheapest first (protocol §10).

Each function looks at what its arguments name and nothing else, so a node can run them where the facts are at
hand: form → header → claims → put off → transfers → work → parent witness. What needs memory of the past
(duplicate, condemned, invalid-ancestor, unknown-parent) is for the caller, who has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from consensus.block import HEADER_VERSION, Block, Header, Witness
from consensus.dataset import DatasetSpec
from consensus.difficulty import (
    compute_difficulty,
    compute_earliest_timestamp,
    compute_latest_timestamp,
)
from consensus.encoding import ZERO_HASH
from consensus.errors import BadDelivery, Code, NotYet, RuleViolation
from consensus.keys import VerifySignature
from consensus.ledger import Payout, compute_fees, compute_reward
from consensus.params import ChainParams, ChainSpec
from consensus.task import Rung, Task
from consensus.transaction import SignedTransfer, check_transfer_form, compute_transactions_root


class WorkVerifier(Protocol):
    """Judges whether a witness proves its header's work: the one expensive check, behind one seam."""

    def check(self, task: Task, rung: Rung, header: Header, witness: Witness) -> None:
        """Raises BadDelivery with the code of whatever fails in the solution or its counts."""


def check_header(spec: ChainSpec, header: Header, parent: Header, grandparent_timestamp: int | None) -> None:
    """What a header must be by its parent and grandparent, whatever the time is.

    Raises RuleViolation with WRONG_HEIGHT, WRONG_VERSION, WRONG_TASK, TIMESTAMP_TOO_EARLY or
    WRONG_DIFFICULTY.
    """
    if header.parent != parent.block_id:
        raise ValueError("the parent given is not the header's")
    if header.height != parent.height + 1:
        raise RuleViolation(Code.WRONG_HEIGHT, f"height {header.height} after {parent.height}")
    if header.version != HEADER_VERSION:
        raise RuleViolation(Code.WRONG_VERSION, f"version {header.version}")
    if header.task_id != spec.task_id:
        raise RuleViolation(Code.WRONG_TASK, header.task_id.hex())
    earliest = compute_earliest_timestamp(spec.params, parent.timestamp)
    if header.timestamp < earliest:
        raise RuleViolation(Code.TIMESTAMP_TOO_EARLY, f"timestamp {header.timestamp}, earliest {earliest}")
    required = compute_difficulty(spec.params, parent, grandparent_timestamp)
    if header.difficulty != required:
        raise RuleViolation(Code.WRONG_DIFFICULTY, f"difficulty {header.difficulty}, required {required}")


def check_clock(params: ChainParams, header: Header, now_seconds: int) -> None:
    """Raises NotYet(FROM_THE_FUTURE) for a timestamp too far ahead of the clock."""
    latest = compute_latest_timestamp(params, now_seconds)
    if header.timestamp > latest:
        raise NotYet(Code.FROM_THE_FUTURE, f"timestamp {header.timestamp}, latest {latest}")


def check_claims(dataset: DatasetSpec, rung: Rung, witness: Witness) -> None:
    """Raises BadDelivery with CLAIM_ABOVE_SPLIT or CLAIM_BELOW_RUNG; counts not one record."""
    if witness.train_correct > dataset.n_train or witness.eval_correct > dataset.n_eval:
        raise BadDelivery(
            Code.CLAIM_ABOVE_SPLIT,
            f"{witness.train_correct} of {dataset.n_train} train,"
            f" {witness.eval_correct} of {dataset.n_eval} eval",
        )
    if witness.train_correct < rung.min_train_correct or witness.eval_correct < rung.min_eval_correct:
        raise BadDelivery(
            Code.CLAIM_BELOW_RUNG,
            f"{witness.train_correct} and {witness.eval_correct} right, the rung demands"
            f" {rung.min_train_correct} and {rung.min_eval_correct}",
        )


def check_claimed_work(claimed_chain_work: int, tip_chain_work: int, tip_work: int) -> None:
    """Whether a branch claims enough to be worth an evaluation.

    `claimed_chain_work` is that of the heaviest known header descending from the block (or itself),
    `tip_work` the tip's own. Raises NotYet(PUT_OFF).
    """
    if claimed_chain_work < tip_chain_work - tip_work:
        raise NotYet(Code.PUT_OFF, f"claims {claimed_chain_work} of {tip_chain_work - tip_work}")


def check_transactions_root(block: Block) -> None:
    """Raises BadDelivery(WRONG_TRANSACTIONS_ROOT) where the transfers are not those of the header."""
    root = compute_transactions_root(block.transfers)
    if root != block.header.transactions_root:
        raise BadDelivery(Code.WRONG_TRANSACTIONS_ROOT, root.hex())


def check_transfer_forms(transfers: Sequence[SignedTransfer], verify_signature: VerifySignature) -> None:
    """Raises what `check_transfer_form` raises, for the first transfer that fails."""
    for signed in transfers:
        check_transfer_form(signed, verify_signature)


def check_parent_witness(header: Header, parent: Header, verifies: bool | None) -> None:
    """Whether the header commits to a witness of its parent that verifies.

    `verifies` says whether the very witness that the header names does; None where it could not be had. Above
    genesis the header names none, and it is not looked at. Raises RuleViolation(WRONG_PARENT_WITNESS) or
    NotYet(MISSING_PARENT_WITNESS).
    """
    if parent.height == 0:
        if header.parent_witness != ZERO_HASH:
            raise RuleViolation(Code.WRONG_PARENT_WITNESS, "genesis has no witness")
    elif verifies is None:
        raise NotYet(Code.MISSING_PARENT_WITNESS, header.parent_witness.hex())
    elif not verifies:
        raise RuleViolation(Code.WRONG_PARENT_WITNESS, header.parent_witness.hex())


def compute_payout(params: ChainParams, header: Header, transfers: Sequence[SignedTransfer]) -> Payout:
    """What a block's miner is credited with `maturity` blocks later."""
    reward = compute_reward(header.height, params.initial_reward, params.halving_interval)
    return Payout(header.miner, reward + compute_fees(transfers))
