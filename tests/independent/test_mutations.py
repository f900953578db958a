"""The independent verifier accepts a valid chain and refuses its every mutation, each at the right stage."""

from __future__ import annotations

from functools import cache

import pytest

from tests.independent import mutations
from tests.independent.tiny_chain import SETTLED, TinyChain, build_tiny_chain
from tools import independent_verifier as verifier
from tools.independent_verifier import Refused, Stage

HEIGHTS = range(1, 6)


@pytest.fixture
def tiny() -> TinyChain:
    return build_tiny_chain()


@cache
def get_twins(at: int) -> list[bytes]:
    tiny = build_tiny_chain()
    return mutations.get_solutions(tiny.chain, tiny.tips[at], tiny.blocks[at])[1]


def test_accepts_the_valid_chain(tiny: TinyChain) -> None:
    tips = list(verifier.iterate_chain(tiny.chain, tiny.tips[0], tiny.blocks, SETTLED))
    assert tips == list(tiny.tips[1:])
    assert {tiny.decode(height - 1).header.height for height in HEIGHTS} == set(HEIGHTS)


@pytest.mark.parametrize("height", HEIGHTS)
def test_rejects_every_mutation_of_a_block(tiny: TinyChain, height: int) -> None:
    below = tiny.tips[height - 1]
    spoiled = list(mutations.iterate_mutations(tiny.chain, below, tiny.blocks[height - 1]))
    assert len(spoiled) > 150
    assert mutations.find_wrong_verdicts(tiny.chain, below, spoiled, SETTLED) == []


def test_mutations_reach_every_stage_of_a_block_but_one(tiny: TinyChain) -> None:
    reached = set()
    for mutation in mutations.iterate_mutations(tiny.chain, tiny.tips[1], tiny.blocks[1]):
        with pytest.raises(Refused) as caught:
            verifier.check_block(tiny.chain, tiny.tips[1], mutation.raw, SETTLED)
        reached.add(caught.value.stage)
    outside_a_block = {Stage.DATASET, Stage.TASK, Stage.PARAMS, Stage.NODE, Stage.VECTOR}
    # Whoever changes parent_witness changes the watermark too; the twins below reach this stage.
    assert set(Stage) - reached == outside_a_block | {Stage.PARENT_WITNESS}


@pytest.mark.parametrize("height", [2, 4])
def test_rejects_one_bit_in_any_byte_before_the_solution(tiny: TinyChain, height: int) -> None:
    flips = mutations.iterate_byte_flips(tiny.decode(height - 1))
    assert mutations.find_wrong_verdicts(tiny.chain, tiny.tips[height - 1], flips, SETTLED) == []


def test_rejects_valid_blocks_in_a_list_that_is_no_chain(tiny: TinyChain) -> None:
    for name, blocks in mutations.mutate_chain(tiny.blocks):
        with pytest.raises(Refused) as caught:
            list(verifier.iterate_chain(tiny.chain, tiny.tips[0], blocks, SETTLED))
        assert caught.value.stage is Stage.PARENT, name


def test_accepts_a_valid_twin_witness_at_the_tip(tiny: TinyChain) -> None:
    twin = get_twins(4)[0]
    found = verifier.check_block(tiny.chain, tiny.tips[4], twin, SETTLED)
    assert found.block_id == tiny.tips[5].block_id
    assert found.witness_hash != tiny.tips[5].witness_hash


def test_rejects_a_child_that_commits_to_another_valid_witness(tiny: TinyChain) -> None:
    blocks = [*tiny.blocks[:3], get_twins(3)[0], tiny.blocks[4]]
    with pytest.raises(Refused, match="block 5") as caught:
        list(verifier.iterate_chain(tiny.chain, tiny.tips[0], blocks, SETTLED))
    assert caught.value.stage is Stage.PARENT_WITNESS
