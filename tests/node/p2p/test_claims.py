"""Claims of headers: how they are extended, cut, bounded and worked off."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from chain.chain import Chain
from chain.store import Store
from consensus.block import Header
from consensus.errors import BadDelivery, Code, RuleViolation
from consensus.params import ChainSpec
from node.p2p import claims
from node.p2p.claims import Claim, advance_claim, build_locator, extend_claim
from node.p2p.limits import MAX_LOCATOR
from tests.builders import BuiltBlock, build_genesis, build_spec, mine_blocks, open_chain, submit

NOW_SECONDS = 2_000_000_000


class Desk:
    """A chain, and claims about it."""

    def __init__(self, spec: ChainSpec, store: Store, chain: Chain) -> None:
        self.spec = spec
        self.store = store
        self.chain = chain
        self.genesis = build_genesis(spec)

    def extend(
        self, claim: Claim | None, blocks: Sequence[BuiltBlock], now_seconds: int = NOW_SECONDS
    ) -> Claim | None:
        return self.extend_with([block.header for block in blocks], claim, now_seconds)

    def extend_with(
        self, headers: Sequence[Header], claim: Claim | None = None, now_seconds: int = NOW_SECONDS
    ) -> Claim | None:
        with self.store.read() as view:
            return extend_claim(self.spec, view, self.chain.is_condemned, claim, headers, now_seconds)

    def claim(self, blocks: Sequence[BuiltBlock]) -> Claim:
        claim = self.extend(None, blocks)
        assert claim is not None
        return claim

    def advance(self, claim: Claim) -> Claim:
        with self.store.read() as view:
            return advance_claim(view, claim)

    def locate(self, claim: Claim | None) -> list[bytes]:
        with self.store.read() as view:
            return build_locator(view, claim)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    spec = build_spec()
    store, chain = open_chain(tmp_path, spec)
    yield Desk(spec, store, chain)
    store.close()


def get_ids(claim: Claim) -> list[bytes]:
    return [header.block_id for header in claim.headers[claim.start :]]


def test_claim_grows_answer_by_answer(desk: Desk) -> None:
    blocks = mine_blocks(desk.spec, desk.genesis, 9)

    claim = desk.extend(desk.extend(None, blocks[:4]), blocks[4:])

    assert claim is not None
    assert get_ids(claim) == [block.block_id for block in blocks]
    assert (claim.height, claim.chain_work) == (9, blocks[-1].chain_work)
    assert desk.extend(claim, []) is claim


def test_verified_headers_move_the_base(desk: Desk) -> None:
    blocks = mine_blocks(desk.spec, desk.genesis, 6)
    claim = desk.claim(blocks)
    for block in blocks[:4]:
        submit(desk.chain, block)

    advanced = desk.advance(claim)

    assert advanced.base.block_id == blocks[3].block_id
    assert advanced.base_parent_timestamp == blocks[2].header.timestamp
    assert get_ids(advanced) == [block.block_id for block in blocks[4:]]
    more = mine_blocks(desk.spec, blocks[-1], 2)
    grown = desk.extend(advanced, more)
    assert grown is not None
    assert get_ids(grown) == [block.block_id for block in [*blocks[4:], *more]]
    # Told again from below, what is verified is passed over.
    assert get_ids(desk.claim(blocks)) == get_ids(advanced)


def test_claim_without_pending_headers_has_the_work_of_its_base(desk: Desk) -> None:
    blocks = mine_blocks(desk.spec, desk.genesis, 2)
    for block in blocks:
        submit(desk.chain, block)

    claim = desk.claim(blocks)

    assert (claim.pending_count, claim.height, claim.chain_work) == (0, 2, blocks[-1].chain_work)


def test_other_branch_replaces_the_end(desk: Desk) -> None:
    blocks = mine_blocks(desk.spec, desk.genesis, 5)
    claim = desk.claim(blocks)
    for fork_height in (3, 1):
        branch = mine_blocks(desk.spec, blocks[fork_height - 1], 3, nonce=7)
        changed = desk.extend(claim, branch)
        assert changed is not None
        expected = [*blocks[:fork_height], *branch]
        assert get_ids(changed) == [block.block_id for block in expected]


def test_rejects_headers_that_continue_nothing(desk: Desk) -> None:
    blocks = mine_blocks(desk.spec, desk.genesis, 5)
    for told in (blocks[2:], [blocks[0], blocks[2]], [blocks[0], blocks[0]]):
        with pytest.raises(BadDelivery) as caught:
            desk.extend(None, told)
        assert caught.value.code is Code.UNDECODABLE


def test_rejects_headers_that_break_a_rule(desk: Desk) -> None:
    blocks = mine_blocks(desk.spec, desk.genesis, 3)
    broken = replace(blocks[2].header, difficulty=blocks[2].header.difficulty + 1)
    headers = [blocks[0].header, blocks[1].header, broken]

    with pytest.raises(RuleViolation) as caught:
        desk.extend_with(headers)

    assert caught.value.code is Code.WRONG_DIFFICULTY


def test_rejects_what_builds_on_a_condemned_block(desk: Desk) -> None:
    blocks = mine_blocks(desk.spec, desk.genesis, 3)
    desk.chain.condemn(blocks[1].block_id, Code.BAD_SIGNATURE)

    with pytest.raises(RuleViolation) as caught:
        desk.extend(None, blocks)

    assert caught.value.code is Code.INVALID_ANCESTOR


def test_headers_from_the_future_are_left_out(desk: Desk) -> None:
    blocks = mine_blocks(desk.spec, desk.genesis, 4)

    claim = desk.extend(None, blocks, now_seconds=blocks[2].header.timestamp - 10)

    assert claim is not None
    assert get_ids(claim) == [block.block_id for block in blocks[:3]]


def test_claim_is_bounded(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "MAX_CLAIMED_HEADERS", 3)
    blocks = mine_blocks(desk.spec, desk.genesis, 6)

    claim = desk.claim(blocks)

    assert claim.pending_count == 3
    again = desk.extend(claim, blocks[3:])
    assert again is not None
    assert again.pending_count == 3


def test_locator_is_sparse_short_and_reaches_genesis(desk: Desk) -> None:
    assert desk.locate(None) == [desk.spec.chain_id]
    blocks = mine_blocks(desk.spec, desk.genesis, 300)
    locator = desk.locate(desk.claim(blocks))

    assert locator[0] == blocks[-1].block_id
    assert locator[-1] == desk.spec.chain_id
    assert len(locator) <= min(MAX_LOCATOR, 12)
    assert len(set(locator)) == len(locator)
