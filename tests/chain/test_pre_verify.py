"""Every check before the solution is looked at: one valid block, one mutation, one code; and their order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from chain.chain import Chain
from chain.condemned import CondemnedIds
from chain.store import Store
from consensus.block import Block, Header, Witness, encode_block
from consensus.encoding import U64_MAX
from consensus.errors import BadDelivery, Code, ConsensusError, Duplicate, NotYet, Outcome, RuleViolation
from consensus.params import ChainSpec
from tests.builders import (
    ALICE,
    BOB,
    INITIAL_BALANCE,
    N_EVAL,
    N_TRAIN,
    BuiltBlock,
    build_header,
    build_transfer,
    build_witness,
    finish_block,
    get_rung,
    mine_block,
    submit,
)


def get_refusal(chain: Chain, block: BuiltBlock, now_seconds: int | None = None) -> ConsensusError:
    now = block.header.timestamp if now_seconds is None else now_seconds
    with pytest.raises(ConsensusError) as caught:
        chain.pre_verify(block.raw, now)
    return caught.value


def test_accepts_a_valid_block(chain: Chain, spec: ChainSpec, genesis: BuiltBlock) -> None:
    block = mine_block(spec, genesis, [build_transfer(spec, ALICE, BOB.public)])
    candidate = chain.pre_verify(block.raw, block.header.timestamp)
    rung = get_rung(spec, genesis, block.header)
    assert (candidate.block, candidate.block_id, candidate.raw) == (block.block, block.block_id, block.raw)
    assert (candidate.rung, candidate.work, candidate.chain_work) == (rung, rung.work, rung.work)
    assert candidate.parent == chain.tip
    assert candidate.needs_witness is None


HEADER_MUTATIONS: dict[Code, Callable[[Header], Header]] = {
    Code.WRONG_HEIGHT: lambda h: replace(h, height=2),
    Code.WRONG_VERSION: lambda h: replace(h, version=2),
    Code.WRONG_TASK: lambda h: replace(h, task_id=bytes(32)),
    Code.TIMESTAMP_TOO_EARLY: lambda h: replace(h, timestamp=h.timestamp - 16),
    Code.WRONG_DIFFICULTY: lambda h: replace(h, difficulty=h.difficulty + 1),
}


@pytest.mark.parametrize("code", HEADER_MUTATIONS, ids=str)
def test_rejects_a_broken_header(chain: Chain, spec: ChainSpec, genesis: BuiltBlock, code: Code) -> None:
    header = HEADER_MUTATIONS[code](build_header(spec, genesis))
    block = finish_block(spec, genesis, header)
    assert get_refusal(chain, block, 2**40).code is code
    assert chain.is_condemned(block.block_id)
    assert get_refusal(chain, block).code is Code.CONDEMNED
    assert get_refusal(chain, mine_block(spec, block)).code is Code.INVALID_ANCESTOR
    assert chain.is_condemned(mine_block(spec, block).block_id)


def test_rejects_another_genesis(chain: Chain, spec: ChainSpec, genesis: BuiltBlock) -> None:
    other = replace(genesis, block=Block(replace(spec.genesis, nonce=1), (), None))
    assert get_refusal(chain, other).code is Code.UNKNOWN_PARENT
    child = replace(other, block=Block(replace(spec.genesis, parent=spec.chain_id), (), None))
    assert get_refusal(chain, child).code is Code.WRONG_HEIGHT
    assert get_refusal(chain, genesis).code is Code.DUPLICATE


def test_rejects_the_future_for_now(chain: Chain, spec: ChainSpec, genesis: BuiltBlock) -> None:
    block = mine_block(spec, genesis)
    refusal = get_refusal(chain, block, block.header.timestamp - 16)
    assert (refusal.code, refusal.outcome) == (Code.FROM_THE_FUTURE, Outcome.NOT_YET)
    assert not chain.is_condemned(block.block_id)
    assert chain.pre_verify(block.raw, block.header.timestamp - 15).block_id == block.block_id


CLAIM_MUTATIONS: list[tuple[Callable[[Witness], Witness], Code]] = [
    (lambda w: replace(w, train_correct=N_TRAIN + 1), Code.CLAIM_ABOVE_SPLIT),
    (lambda w: replace(w, eval_correct=N_EVAL + 1), Code.CLAIM_ABOVE_SPLIT),
    (lambda w: replace(w, train_correct=w.train_correct - 1), Code.CLAIM_BELOW_RUNG),
    (lambda w: replace(w, eval_correct=w.eval_correct - 1), Code.CLAIM_BELOW_RUNG),
]


@pytest.mark.parametrize(("mutate", "code"), CLAIM_MUTATIONS)
def test_rejects_a_false_claim(
    chain: Chain, spec: ChainSpec, genesis: BuiltBlock, mutate: Callable[[Witness], Witness], code: Code
) -> None:
    block = mine_block(spec, genesis)
    refusal = get_refusal(chain, block.with_witness(mutate(block.witness)))
    assert (refusal.code, refusal.outcome) == (code, Outcome.BAD_DELIVERY)
    assert submit(chain, block).status == "active"


def test_rejects_other_transfers_than_the_root(chain: Chain, spec: ChainSpec, genesis: BuiltBlock) -> None:
    header = build_header(spec, genesis, [build_transfer(spec, ALICE, BOB.public)])
    block = finish_block(spec, genesis, header, [build_transfer(spec, ALICE, BOB.public, 99)])
    assert get_refusal(chain, block).code is Code.WRONG_TRANSACTIONS_ROOT
    assert not chain.is_condemned(block.block_id)


def test_rejects_a_forged_signature(chain: Chain, spec: ChainSpec, genesis: BuiltBlock) -> None:
    forged = replace(build_transfer(spec, ALICE, BOB.public), signature=bytes(64))
    block = mine_block(spec, genesis, [forged])
    assert get_refusal(chain, block).code is Code.BAD_SIGNATURE
    assert chain.is_condemned(block.block_id)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"nonce": 1}, Code.WRONG_NONCE),
        ({"nonce": U64_MAX}, Code.NONCE_EXHAUSTED),
        ({"amount": INITIAL_BALANCE}, Code.INSUFFICIENT_BALANCE),
        ({"amount": U64_MAX, "fee": U64_MAX}, Code.INSUFFICIENT_BALANCE),
    ],
)
def test_rejects_what_the_tips_ledger_refuses(
    chain: Chain, spec: ChainSpec, genesis: BuiltBlock, options: dict[str, int], code: Code
) -> None:
    block = mine_block(spec, genesis, [build_transfer(spec, ALICE, BOB.public, **options)])
    assert get_refusal(chain, block).code is code
    assert chain.is_condemned(block.block_id)


def test_rejects_a_transfer_of_another_chain(chain: Chain, spec: ChainSpec, genesis: BuiltBlock) -> None:
    signed = build_transfer(spec, ALICE, BOB.public)
    foreign = ALICE.sign_transfer(replace(signed.transfer, chain_id=bytes(32)))
    assert get_refusal(chain, mine_block(spec, genesis, [foreign])).code is Code.WRONG_CHAIN


def test_rejects_an_unknown_parent_for_now(chain: Chain, spec: ChainSpec, genesis: BuiltBlock) -> None:
    parent = mine_block(spec, genesis)
    child = mine_block(spec, parent)
    assert get_refusal(chain, child).code is Code.UNKNOWN_PARENT
    submit(chain, parent)
    assert submit(chain, child).status == "active"


def test_rejects_a_known_block(chain: Chain, spec: ChainSpec, genesis: BuiltBlock) -> None:
    block = mine_block(spec, genesis)
    submit(chain, block)
    twin = block.with_witness(replace(block.witness, train_correct=N_TRAIN))
    assert isinstance(get_refusal(chain, twin), Duplicate)


def test_rejects_what_is_too_large(chain: Chain, spec: ChainSpec, genesis: BuiltBlock) -> None:
    with pytest.raises(BadDelivery) as caught:
        chain.pre_verify(bytes(spec.limits.max_block_bytes + 1), 0)
    assert caught.value.code is Code.TOO_LARGE
    transfers = [build_transfer(spec, ALICE, BOB.public, nonce=n) for n in range(9)]
    block = mine_block(spec, genesis, transfers)
    assert get_refusal(chain, block).code is Code.TOO_LARGE
    with pytest.raises(BadDelivery) as caught:
        chain.pre_verify(mine_block(spec, genesis).raw[:-1], 0)
    assert caught.value.code is Code.UNDECODABLE


def test_order_is_the_protocols(chain: Chain, spec: ChainSpec, genesis: BuiltBlock) -> None:
    """A block that breaks every rule at once; mending one after the other shows the next code."""
    forged = replace(build_transfer(spec, ALICE, BOB.public, nonce=5), signature=bytes(64))
    signed = build_transfer(spec, ALICE, BOB.public, nonce=5)
    good = build_header(spec, genesis, [forged])
    broken = replace(
        good, height=3, version=9, task_id=bytes(32), timestamp=good.timestamp - 19, difficulty=1
    )
    steps: list[tuple[dict[str, object], Code]] = [
        ({}, Code.WRONG_HEIGHT),
        ({"height": 1}, Code.WRONG_VERSION),
        ({"version": 1}, Code.WRONG_TASK),
        ({"task_id": spec.task_id}, Code.TIMESTAMP_TOO_EARLY),
        ({"timestamp": good.timestamp}, Code.WRONG_DIFFICULTY),
        ({"difficulty": good.difficulty}, Code.FROM_THE_FUTURE),
    ]
    poor = Witness(0, 0, b"")
    header = broken
    for fields, code in steps:
        header = replace(header, **fields)  # type: ignore[arg-type]
        block = finish_block(spec, genesis, header, [signed], poor)
        assert get_refusal(chain, block, 0).code is code
    now = header.timestamp
    rich = build_witness(spec, get_rung(spec, genesis, header))
    assert get_refusal(chain, block, now).code is Code.CLAIM_BELOW_RUNG
    block = finish_block(spec, genesis, header, [signed], rich)
    assert get_refusal(chain, block, now).code is Code.WRONG_TRANSACTIONS_ROOT
    block = finish_block(spec, genesis, header, [forged], rich)
    assert get_refusal(chain, block, now).code is Code.BAD_SIGNATURE
    assert get_refusal(chain, mine_block(spec, genesis, [signed]), now).code is Code.WRONG_NONCE


def test_ledger_waits_for_commit_off_the_tip(
    store: Store, chain: Chain, spec: ChainSpec, genesis: BuiltBlock
) -> None:
    submit(chain, mine_block(spec, genesis))
    block = mine_block(spec, genesis, [build_transfer(spec, ALICE, BOB.public, nonce=5)], nonce=1)
    candidate = chain.pre_verify(block.raw, block.header.timestamp)
    with pytest.raises(RuleViolation) as caught:
        chain.commit(candidate)
    assert caught.value.code is Code.WRONG_NONCE


def test_missing_parent_is_not_condemned(chain: Chain, spec: ChainSpec, genesis: BuiltBlock) -> None:
    orphan = mine_block(spec, mine_block(spec, genesis))
    with pytest.raises(NotYet):
        chain.pre_verify(encode_block(orphan.block), orphan.header.timestamp)
    assert not chain.is_condemned(orphan.block_id)


def test_condemned_ids_are_bounded() -> None:
    condemned = CondemnedIds(capacity=2)
    for byte in (1, 2, 1, 3):
        condemned.add(bytes([byte]), Code.WRONG_HEIGHT if byte < 3 else Code.WRONG_TASK)
    condemned.add(b"\x01", Code.WRONG_TASK)
    assert [condemned.get(bytes([byte])) for byte in (1, 2, 3)] == [Code.WRONG_HEIGHT, None, Code.WRONG_TASK]
