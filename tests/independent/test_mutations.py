"""The independent verifier accepts a valid chain and refuses its every mutation, each at the right stage."""

from __future__ import annotations

from functools import cache

import pytest

from tests.independent import mutations
from tests.independent.mutations import Mutation
from tests.independent.tiny_chain import SETTLED, TinyChain, build_tiny_chain
from tools import independent_verifier as verifier
from tools.independent_verifier import Refused, Rung, Stage

HEIGHTS = range(1, 6)


@pytest.fixture
def tiny() -> TinyChain:
    return build_tiny_chain()


def get_rung(tiny: TinyChain, at: int) -> Rung:
    header = tiny.decode(at).header
    return tiny.chain.params.task.rungs[verifier.compute_rung(tiny.chain, tiny.tips[at], header)]


def compute_counts(tiny: TinyChain, at: int, solution: bytes) -> tuple[int, int]:
    header = tiny.decode(at).header.encode()
    task = tiny.chain.params.task
    return verifier.compute_counts(task, get_rung(tiny, at), header, solution, tiny.chain.dataset)


def find_accepted(tiny: TinyChain, at: int, spoiled: list[Mutation]) -> list[str]:
    """Mutations of the block at index `at` that are accepted, or refused at a stage they should pass."""
    wrong = []
    for mutation in spoiled:
        try:
            verifier.check_block(tiny.chain, tiny.tips[at], mutation.raw, SETTLED)
            wrong.append(f"{mutation.name}: accepted")
        except Refused as refused:
            if refused.stage not in mutation.stages:
                wrong.append(f"{mutation.name}: {refused}")
    return wrong


@cache
def get_twins(at: int) -> list[bytes]:
    tiny = build_tiny_chain()
    layout = mutations.get_layout(tiny.chain.params.task, get_rung(tiny, at))
    block = tiny.decode(at)
    return mutations.split_solutions(block, layout, lambda solution: compute_counts(tiny, at, solution))[1]


def test_accepts_the_valid_chain(tiny: TinyChain) -> None:
    tips = list(verifier.iterate_chain(tiny.chain, tiny.tips[0], tiny.blocks, SETTLED))
    assert tips == list(tiny.tips[1:])
    assert {tiny.decode(height - 1).header.height for height in HEIGHTS} == set(HEIGHTS)


def build_mutations(tiny: TinyChain, at: int) -> list[Mutation]:
    return list(
        mutations.iterate_mutations(
            tiny.decode(at),
            tiny.chain.params.task,
            get_rung(tiny, at),
            lambda solution: compute_counts(tiny, at, solution),
        )
    )


@pytest.mark.parametrize("height", HEIGHTS)
def test_rejects_every_mutation_of_a_block(tiny: TinyChain, height: int) -> None:
    spoiled = build_mutations(tiny, height - 1)
    assert len(spoiled) > 150
    assert find_accepted(tiny, height - 1, spoiled) == []


def test_mutations_reach_every_stage_of_a_block_but_one(tiny: TinyChain) -> None:
    reached = set()
    for mutation in build_mutations(tiny, 1):
        with pytest.raises(Refused) as caught:
            verifier.check_block(tiny.chain, tiny.tips[1], mutation.raw, SETTLED)
        reached.add(caught.value.stage)
    outside_a_block = {Stage.DATASET, Stage.TASK, Stage.PARAMS, Stage.NODE, Stage.VECTOR}
    # Whoever changes parent_witness changes the watermark too; the twins below reach this stage.
    assert set(Stage) - reached == outside_a_block | {Stage.PARENT_WITNESS}


@pytest.mark.parametrize("height", [2, 4])
def test_rejects_one_bit_in_any_byte_before_the_solution(tiny: TinyChain, height: int) -> None:
    flips = list(mutations.iterate_byte_flips(tiny.decode(height - 1)))
    assert find_accepted(tiny, height - 1, flips) == []


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
