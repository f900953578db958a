"""One valid block, one mutation, one code: every rule of §10 that needs no memory of other blocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate
from typing import Any

import pytest

from chain.keys import SigningKey
from consensus.block import Block, Witness
from consensus.encoding import U64_MAX, ZERO_HASH
from consensus.errors import Code, ConsensusError
from consensus.ledger import Account, Payout
from consensus.rules import check_claims, check_header, check_parent_witness, compute_payout
from consensus.transaction import SignedTransfer, compute_transactions_root
from node.dev_chain import ALICE, CAROL, win
from tests.consensus.golden import Place, check_block, get_golden, get_places, get_required, one_field

Case = tuple[Block, Place]
Mutation = Callable[[Case], Case]
SPEC = get_golden().spec
AT = 1
"""The block with three transfers: one that spends a credit of its own block, and a self-transfer."""


def get_refusal(case: Case) -> Code | None:
    """The code with which a block is refused; None if it is valid."""
    try:
        check_block(*case)
    except ConsensusError as error:
        return error.code
    return None


def with_header(**changes: Any) -> Mutation:
    """Fields of the header replaced."""
    return lambda case: (replace(case[0], header=replace(case[0].header, **changes)), case[1])


def shift_header(field: str, by: int) -> Mutation:
    """A field of the header moved."""
    return lambda case: with_header(**{field: getattr(case[0].header, field) + by})(case)


def with_witness(field: str, value: int) -> Mutation:
    """A claim replaced."""

    def mutate(case: Case) -> Case:
        assert case[0].witness is not None
        return replace(case[0], witness=replace(case[0].witness, **one_field(field, value))), case[1]

    return mutate


def claim_below_rung(field: str) -> Mutation:
    """A claim one below what the rung demands."""
    return lambda case: with_witness(field, getattr(get_required(*case), f"min_{field}") - 1)(case)


def at_place(**changes: Any) -> Mutation:
    """What surrounds the block replaced."""
    return lambda case: (case[0], replace(case[1], **changes))


def with_transfers(change: Callable[[list[SignedTransfer]], None]) -> Mutation:
    """The transfers changed and the root with them, so that only they are wrong."""

    def mutate(case: Case) -> Case:
        transfers = list(case[0].transfers)
        change(transfers)
        header = replace(case[0].header, transactions_root=compute_transactions_root(transfers))
        return replace(case[0], header=header, transfers=tuple(transfers)), case[1]

    return mutate


def resign(index: int, key: SigningKey, **changes: Any) -> Mutation:
    """A transfer with fields replaced and a signature that is right again."""

    def change(transfers: list[SignedTransfer]) -> None:
        transfers[index] = key.sign_transfer(replace(transfers[index].transfer, **changes))

    return with_transfers(change)


def alter_transfer(**changes: Any) -> Mutation:
    """The first transfer with fields replaced under its old signature."""

    def change(transfers: list[SignedTransfer]) -> None:
        transfers[0] = replace(transfers[0], transfer=replace(transfers[0].transfer, **changes))

    return with_transfers(change)


def alter_signature(transfers: list[SignedTransfer]) -> None:
    transfers[-1] = replace(transfers[-1], signature=transfers[-1].signature[:-1] + b"\x7f")


def alter_solution(case: Case) -> Case:
    """The first free weight made -128."""
    witness = case[0].witness
    assert witness is not None
    return replace(case[0], witness=replace(witness, solution=b"\x80" + witness.solution[1:])), case[1]


def lengthen_solution(case: Case) -> Case:
    witness = case[0].witness
    assert witness is not None
    return replace(case[0], witness=replace(witness, solution=witness.solution + b"\0")), case[1]


def claim_one_more(field: str) -> Mutation:
    return lambda case: with_witness(field, getattr(case[0].witness, field) + 1)(case)


def drop_transfer(case: Case) -> Case:
    return replace(case[0], transfers=case[0].transfers[:-1]), case[1]


def reorder_transfers(case: Case) -> Case:
    return replace(case[0], transfers=case[0].transfers[::-1]), case[1]


# In the order of §10: the earlier of two faults is the one that is told.
MUTATIONS: dict[str, tuple[Mutation, Code]] = {
    "height skipped": (shift_header("height", 1), Code.WRONG_HEIGHT),
    "height repeated": (shift_header("height", -1), Code.WRONG_HEIGHT),
    "version 0": (with_header(version=0), Code.WRONG_VERSION),
    "version 2": (with_header(version=2), Code.WRONG_VERSION),
    "another task": (with_header(task_id=bytes(32)), Code.WRONG_TASK),
    "a second too early": (shift_header("timestamp", -1), Code.TIMESTAMP_TOO_EARLY),
    "before its parent": (with_header(timestamp=0), Code.TIMESTAMP_TOO_EARLY),
    "difficulty one too low": (shift_header("difficulty", -1), Code.WRONG_DIFFICULTY),
    "difficulty one too high": (shift_header("difficulty", 1), Code.WRONG_DIFFICULTY),
    "the largest difficulty": (with_header(difficulty=U64_MAX), Code.WRONG_DIFFICULTY),
    "a second too late": (shift_header("timestamp", 16), Code.FROM_THE_FUTURE),
    "the end of time": (with_header(timestamp=U64_MAX), Code.FROM_THE_FUTURE),
    "train claim above the split": (with_witness("train_correct", 241), Code.CLAIM_ABOVE_SPLIT),
    "eval claim above the split": (with_witness("eval_correct", 121), Code.CLAIM_ABOVE_SPLIT),
    "train claim below the rung": (claim_below_rung("train_correct"), Code.CLAIM_BELOW_RUNG),
    "eval claim below the rung": (claim_below_rung("eval_correct"), Code.CLAIM_BELOW_RUNG),
    "a branch of too little work": (
        at_place(claimed_chain_work=6_999, tip_chain_work=9_500, tip_work=2_500),
        Code.PUT_OFF,
    ),
    "a transfer left out": (drop_transfer, Code.WRONG_TRANSACTIONS_ROOT),
    "transfers in another order": (reorder_transfers, Code.WRONG_TRANSACTIONS_ROOT),
    "a root of something else": (with_header(transactions_root=bytes(32)), Code.WRONG_TRANSACTIONS_ROOT),
    "a transfer of version 2": (resign(0, ALICE, version=2), Code.WRONG_TRANSFER_VERSION),
    "a sender of small order": (
        alter_transfer(sender=b"\x01" + bytes(31)),
        Code.BAD_SENDER_KEY,
    ),
    "an altered signature": (with_transfers(alter_signature), Code.BAD_SIGNATURE),
    "an altered amount": (alter_transfer(amount=1), Code.BAD_SIGNATURE),
    "a transfer of another chain": (resign(0, ALICE, chain_id=bytes(32)), Code.WRONG_CHAIN),
    "a nonce skipped": (resign(0, ALICE, nonce=1), Code.WRONG_NONCE),
    "a transfer repeated": (with_transfers(lambda t: t.append(t[0])), Code.WRONG_NONCE),
    "the nonce that never comes": (resign(2, ALICE, nonce=U64_MAX), Code.NONCE_EXHAUSTED),
    "one coin too many": (resign(2, ALICE, amount=4_291), Code.INSUFFICIENT_BALANCE),
    "a credit spent before it comes": (
        with_transfers(lambda t: t.insert(0, t.pop(1))),
        Code.INSUFFICIENT_BALANCE,
    ),
    "a fee above the balance": (resign(1, CAROL, fee=U64_MAX), Code.INSUFFICIENT_BALANCE),
    "a longer solution": (lengthen_solution, Code.SOLUTION_LENGTH),
    "a weight of -128": (alter_solution, Code.WEIGHT_OUT_OF_RANGE),
    "train claim one too high": (claim_one_more("train_correct"), Code.WRONG_TRAIN_COUNT),
    "eval claim one too high": (claim_one_more("eval_correct"), Code.WRONG_EVAL_COUNT),
    "a parent's witness that fails": (at_place(verifies=False), Code.WRONG_PARENT_WITNESS),
    "a parent's witness out of reach": (at_place(verifies=None), Code.MISSING_PARENT_WITNESS),
}


@pytest.mark.parametrize("height", range(1, 6))
def test_accepts_every_block_of_the_golden_chain(height: int) -> None:
    assert get_refusal(get_places()[height - 1]) is None


@pytest.mark.parametrize(("mutate", "code"), MUTATIONS.values(), ids=MUTATIONS.keys())
def test_rejects_one_mutation_with_its_one_code(mutate: Mutation, code: Code) -> None:
    assert get_refusal(mutate(get_places()[AT])) is code


def test_faults_are_told_in_the_order_of_the_text() -> None:
    """With the faults from one on all present at once, that one is told."""
    names = (
        "height skipped",
        "version 2",
        "another task",
        "a second too early",
        "difficulty one too low",
        "train claim above the split",
        "eval claim below the rung",
        "a branch of too little work",
        "a transfer left out",
        "an altered signature",
        "one coin too many",
        "a longer solution",
        "train claim one too high",
    )
    case = get_places()[AT]
    # From the last fault backwards; a claim can hold one fault only, so the earlier replaces the later.
    for name, mutated in zip(
        reversed(names), list(accumulate([case, *reversed(names)], _mutate))[1:], strict=True
    ):
        assert get_refusal(mutated) is MUTATIONS[name][1]


def _mutate(case: Any, name: Any) -> Any:
    return MUTATIONS[name][0](case)


def test_a_witness_of_another_nonce_is_refused() -> None:
    refusal = get_refusal(shift_header("nonce", -1)(get_places()[AT]))
    assert refusal in (Code.WRONG_TRAIN_COUNT, Code.WRONG_EVAL_COUNT)


def test_rejects_real_work_that_names_a_witness_of_genesis() -> None:
    block, place = get_places()[0]
    header = replace(block.header, parent_witness=b"\x55" * 32)
    header, witness = win(SPEC.task, get_required(block, place), header, get_golden().dataset)
    case = (replace(block, header=header, witness=witness), place)
    assert get_refusal(case) is Code.WRONG_PARENT_WITNESS


def test_rejects_a_header_checked_against_another_parent() -> None:
    block, place = get_places()[AT]
    with pytest.raises(ValueError, match="parent"):
        check_header(SPEC, replace(block.header, parent=ZERO_HASH), place.parent, None)


def test_the_child_of_genesis_commits_to_zero() -> None:
    block, place = get_places()[0]
    check_parent_witness(block.header, place.parent, None)


@pytest.mark.parametrize("difference", [0, 1, 10**40])
def test_a_branch_that_claims_enough_is_not_put_off(difference: int) -> None:
    mutate = at_place(claimed_chain_work=7_000 + difference, tip_chain_work=9_500, tip_work=2_500)
    assert get_refusal(mutate(get_places()[AT])) is None


@pytest.mark.parametrize(("train", "right"), [(116, 50), (115, 51), (115, 50), (240, 120)])
def test_claims_at_their_bounds_are_accepted(train: int, right: int) -> None:
    rung = SPEC.task.rungs[2]
    assert (rung.min_train_correct, rung.min_eval_correct) == (115, 50)
    check_claims(SPEC.dataset, rung, Witness(train, right, b""))


def test_a_timestamp_at_either_bound_is_accepted() -> None:
    """The second block comes a quarter of an interval after its parent; the clock may be 15 s behind it."""
    block, place = get_places()[AT]
    assert block.header.timestamp == place.parent.timestamp + 5
    assert get_refusal((block, replace(place, now_seconds=block.header.timestamp - 15))) is None
    assert (
        get_refusal((block, replace(place, now_seconds=block.header.timestamp - 16))) is Code.FROM_THE_FUTURE
    )


@pytest.mark.parametrize(("height", "reward"), [(1, 1_001), (2, 1_001), (3, 500), (5, 500)])
def test_a_payout_is_the_reward_and_the_fees(height: int, reward: int) -> None:
    block = get_golden().blocks[height]
    fees = sum(signed.transfer.fee for signed in block.transfers)
    expected = Payout(block.header.miner, reward + fees)
    assert compute_payout(SPEC.params, block.header, block.transfers) == expected


def test_a_payout_matures_in_the_block_that_spends_it() -> None:
    block, place = get_places()[2]
    assert place.matured == Payout(block.transfers[0].transfer.sender, 1_001)
    assert get_refusal((block, replace(place, matured=None))) is Code.INSUFFICIENT_BALANCE
    held = Account(1_000)
    poorer = replace(place, matured=None, accounts={block.transfers[0].transfer.sender: held})
    assert get_refusal((block, poorer)) is Code.INSUFFICIENT_BALANCE


def test_every_code_of_a_block_is_tested() -> None:
    """But for those that need memory of other blocks, which are chain's."""
    memory = {Code.CONDEMNED, Code.INVALID_ANCESTOR, Code.UNKNOWN_PARENT, Code.DUPLICATE}
    decoding = {Code.UNDECODABLE, Code.TOO_LARGE}
    solution = {Code.MULTIPLIER_OUT_OF_RANGE, Code.OFFSET_OUT_OF_RANGE, Code.BIAS_OUT_OF_RANGE}
    definitions = {code for code in Code if code.name.startswith("BAD_")} - {
        Code.BAD_SENDER_KEY,
        Code.BAD_SIGNATURE,
    }
    elsewhere = memory | decoding | solution | definitions | {Code.WRONG_CHUNK}
    assert {code for _, code in MUTATIONS.values()} == set(Code) - elsewhere


def test_a_header_is_judged_by_its_grandparents_time() -> None:
    block, place = get_places()[2]
    assert place.grandparent_timestamp is not None
    earlier = replace(place, grandparent_timestamp=place.grandparent_timestamp - 1)
    assert get_refusal((block, earlier)) is Code.WRONG_DIFFICULTY
