"""The dummy work verifier against the real one, and the real one through the whole path."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chain.chain import Chain
from chain.database import check_database
from chain.store import Store
from consensus.errors import BadDelivery, Code, Outcome
from consensus.evaluation import NormativeWorkVerifier
from consensus.params import ChainSpec
from consensus.rules import WorkVerifier
from consensus.task import Rung
from tests.builders import (
    ALICE,
    BOB,
    RUNGS,
    BuiltBlock,
    build_dataset,
    build_header,
    build_transfer,
    build_witness,
    finish_block,
    get_rung,
    mine_block,
    solve_witness,
)
from tests.fakes import DummyWorkVerifier, FakeClock, build_refusal_mark


@pytest.fixture
def normative() -> NormativeWorkVerifier:
    return NormativeWorkVerifier(build_dataset())


def get_code(verifier: WorkVerifier, spec: ChainSpec, rung: Rung, block: BuiltBlock) -> Code | None:
    try:
        verifier.check(spec.task, rung, block.header, block.witness)
    except BadDelivery as error:
        return error.code
    return None


@pytest.mark.parametrize("rung", RUNGS)
@pytest.mark.parametrize("excess", [-(10**6), -1, 1, 8])
def test_dummy_and_normative_refuse_the_same_lengths(
    normative: NormativeWorkVerifier, spec: ChainSpec, genesis: BuiltBlock, rung: Rung, excess: int
) -> None:
    whole = build_witness(spec, rung)
    solution = (whole.solution + bytes(8))[: max(0, len(whole.solution) + excess)]
    block = mine_block(spec, genesis).with_witness(replace(whole, solution=solution))
    for verifier in (DummyWorkVerifier(), normative):
        assert get_code(verifier, spec, rung, block) is Code.SOLUTION_LENGTH


@pytest.mark.parametrize("rung", RUNGS)
def test_dummy_and_normative_take_the_same_length(
    normative: NormativeWorkVerifier, spec: ChainSpec, genesis: BuiltBlock, rung: Rung
) -> None:
    block = mine_block(spec, genesis).with_witness(build_witness(spec, rung))
    assert get_code(DummyWorkVerifier(), spec, rung, block) is None
    assert get_code(normative, spec, rung, block) is not Code.SOLUTION_LENGTH


def test_dummy_refuses_on_demand(spec: ChainSpec, genesis: BuiltBlock) -> None:
    dummy = DummyWorkVerifier()
    refusals = [code for code in Code if code.outcome is Outcome.BAD_DELIVERY]
    for code in refusals:
        block = mine_block(spec, genesis, mark=build_refusal_mark(code))
        assert get_code(dummy, spec, RUNGS[1], block) is code
    unmarked = mine_block(spec, genesis, mark=b"other")
    assert get_code(dummy, spec, RUNGS[1], unmarked) is Code.WRONG_TRAIN_COUNT
    assert len(dummy.checked) == len(refusals) + 1


def test_clock_moves_when_told() -> None:
    clock = FakeClock(100.0)
    clock.advance(2.5)
    assert clock() == 102.5


def test_real_work_from_bytes_to_tip(
    store: Store, chain: Chain, normative: NormativeWorkVerifier, spec: ChainSpec, genesis: BuiltBlock
) -> None:
    """Two blocks that the normative evaluator accepts, with a transfer, from bytes to the disk."""
    tip = genesis
    for transfers in ([build_transfer(spec, ALICE, BOB.public)], []):
        header = build_header(spec, tip, transfers)
        rung = get_rung(spec, tip, header)
        block = finish_block(spec, tip, header, transfers, solve_witness(spec, header, rung))
        candidate = chain.pre_verify(block.raw, header.timestamp)
        witness = candidate.block.witness
        assert witness is not None
        normative.check(spec.task, candidate.rung, candidate.block.header, witness)
        assert chain.commit(candidate).status == "active"
        tip = block
    assert check_database(store.path, spec) == []
    boastful = replace(tip.witness, train_correct=tip.witness.train_correct + 1)
    assert get_code(normative, spec, rung, tip.with_witness(boastful)) is Code.WRONG_TRAIN_COUNT
