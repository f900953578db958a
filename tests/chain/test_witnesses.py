"""Twin witnesses: which are kept, which one is served, and what a child's commitment settles."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chain.chain import Chain
from chain.database import check_database
from chain.store import Store
from consensus.block import Witness
from consensus.errors import Code, NotYet, RuleViolation
from consensus.params import ChainSpec
from tests.builders import BuiltBlock, build_witness, get_rung, mine_block, mine_blocks, submit


def build_twin(spec: ChainSpec, block: BuiltBlock, mark: bytes = b"ok twin") -> Witness:
    assert block.parent is not None
    return build_witness(spec, get_rung(spec, block.parent, block.header), mark)


def get_served(store: Store, block: BuiltBlock) -> Witness | None:
    with store.read() as view:
        return view.get_witness(block.block_id)


@pytest.fixture
def parent(chain: Chain, spec: ChainSpec, genesis: BuiltBlock) -> BuiltBlock:
    block = mine_block(spec, genesis)
    submit(chain, block)
    return block


def test_first_witness_is_served(store: Store, parent: BuiltBlock) -> None:
    assert get_served(store, parent) == parent.witness
    with store.read() as view:
        assert view.get_raw_block(parent.block_id) == parent.raw
        assert view.get_raw_block(parent.block_id, bytes(32)) is None


def test_committed_witness_is_wanted_kept_and_served(
    store: Store, chain: Chain, spec: ChainSpec, parent: BuiltBlock
) -> None:
    twin = build_twin(spec, parent)
    child = mine_block(spec, parent, parent_witness=twin.witness_id)
    candidate = chain.pre_verify(child.raw, child.header.timestamp)
    assert candidate.needs_witness == twin.witness_id
    with pytest.raises(NotYet) as caught:
        chain.commit(candidate)
    assert caught.value.code is Code.MISSING_PARENT_WITNESS
    assert not chain.is_condemned(child.block_id)
    assert chain.commit(candidate, twin).status == "active"
    assert get_served(store, parent) == twin
    with store.read() as view:
        assert view.get_raw_block(parent.block_id) == parent.with_witness(twin).raw
        # The first one was verified too; a child that commits to it costs nothing.
        assert view.get_raw_block(parent.block_id, parent.witness.witness_id) == parent.raw
    sibling = mine_block(spec, parent, nonce=1)
    assert chain.pre_verify(sibling.raw, sibling.header.timestamp).needs_witness is None
    assert submit(chain, sibling).status == "side"
    assert get_served(store, parent) == twin
    assert check_database(store.path, spec) == []


def test_needless_witness_is_not_stored(
    store: Store, chain: Chain, spec: ChainSpec, parent: BuiltBlock
) -> None:
    child = mine_block(spec, parent)
    submit(chain, child, parent.witness)
    with store.read() as view:
        assert view.is_witness_verified(parent.block_id, parent.witness.witness_id)
    assert check_database(store.path, spec) == []


def test_reorganisation_changes_what_is_served(
    store: Store, chain: Chain, spec: ChainSpec, parent: BuiltBlock
) -> None:
    twin = build_twin(spec, parent)
    left = mine_block(spec, parent)
    right = mine_block(spec, parent, parent_witness=twin.witness_id)
    submit(chain, left)
    assert submit(chain, right, twin).status == "side"
    assert get_served(store, parent) == parent.witness
    submit(chain, mine_block(spec, right))
    assert get_served(store, parent) == twin
    for block in mine_blocks(spec, left, 2):
        submit(chain, block)
    assert get_served(store, parent) == parent.witness
    assert check_database(store.path, spec) == []


def test_side_branch_serves_its_childs_commitment(
    store: Store, chain: Chain, spec: ChainSpec, genesis: BuiltBlock
) -> None:
    for block in mine_blocks(spec, genesis, 3, nonce=1):
        submit(chain, block)
    side = mine_block(spec, genesis)
    submit(chain, side)
    twin = build_twin(spec, side)
    submit(chain, mine_block(spec, side, parent_witness=twin.witness_id), twin)
    assert get_served(store, side) == twin
    assert check_database(store.path, spec) == []


def test_rejects_a_witness_above_genesis(chain: Chain, spec: ChainSpec, genesis: BuiltBlock) -> None:
    block = mine_block(spec, genesis, parent_witness=b"\x01" * 32)
    candidate = chain.pre_verify(block.raw, block.header.timestamp)
    assert candidate.needs_witness is None
    with pytest.raises(RuleViolation) as caught:
        chain.commit(candidate)
    assert caught.value.code is Code.WRONG_PARENT_WITNESS
    assert chain.is_condemned(block.block_id)


def test_refuses_another_witness_than_the_committed(
    chain: Chain, spec: ChainSpec, parent: BuiltBlock
) -> None:
    twin = build_twin(spec, parent)
    child = mine_block(spec, parent, parent_witness=twin.witness_id)
    candidate = chain.pre_verify(child.raw, child.header.timestamp)
    with pytest.raises(ValueError, match="commits to"):
        chain.commit(candidate, replace(twin, train_correct=twin.train_correct + 1))
    assert not chain.is_condemned(child.block_id)
    assert chain.commit(candidate, twin).status == "active"


def test_twin_verified_meanwhile_is_not_asked_for_again(
    store: Store, chain: Chain, spec: ChainSpec, parent: BuiltBlock
) -> None:
    twin = build_twin(spec, parent)
    children = [mine_block(spec, parent, nonce=n, parent_witness=twin.witness_id) for n in (0, 1)]
    first, second = (chain.pre_verify(child.raw, child.header.timestamp) for child in children)
    chain.commit(first, twin)
    assert second.needs_witness == twin.witness_id
    assert chain.commit(second).status == "side"
    assert check_database(store.path, spec) == []
