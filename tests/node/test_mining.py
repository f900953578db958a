"""Work for miners: when it is new, when it is stale, and what a header must say."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from chain.chain import Chain
from chain.mempool import Mempool
from chain.signatures import verify_signature
from chain.store import Store
from consensus.rules import check_header
from node.events import EventBus
from node.mining import REFRESH_SECONDS, WorkSource, build_template, is_stale, wait_for_work
from tests.builders import (
    ALICE,
    BOB,
    MINER,
    build_genesis,
    build_spec,
    build_transfer,
    mine_block,
    mine_blocks,
    open_chain,
    submit,
)
from tests.fakes import FakeClock


@dataclass(slots=True)
class Mine:
    """A chain with a work source on a clock of the test's."""

    store: Store
    chain: Chain
    mempool: Mempool
    clock: FakeClock
    source: WorkSource


@pytest.fixture
def mine(tmp_path: Path) -> Iterator[Mine]:
    store, chain = open_chain(tmp_path, build_spec())
    mempool = Mempool(store, chain, verify_signature)
    clock = FakeClock(0.0)
    yield Mine(store, chain, mempool, clock, WorkSource(store, chain, mempool, clock))
    store.close()


def test_every_template_is_a_valid_header(mine: Mine) -> None:
    spec = mine.chain.spec
    blocks = mine_blocks(spec, build_genesis(spec), 4, seconds=7)
    for block in [build_genesis(spec), *blocks]:
        if block.height:
            submit(mine.chain, block)
        template = build_template(spec, mine.source.get_work(), MINER, block.header.timestamp)
        grandparent = None if block.parent is None else block.parent.header.timestamp
        check_header(spec, template.header, block.header, grandparent)
        assert template.header.miner == MINER


def test_new_transfers_wait_until_a_refresh_is_due(mine: Mine) -> None:
    before = mine.source.get_work()
    mine.mempool.add(build_transfer(mine.chain.spec, ALICE, BOB.public))
    mine.clock.advance(REFRESH_SECONDS - 0.1)
    assert mine.source.get_work() is before
    mine.clock.advance(0.1)
    after = mine.source.get_work()
    assert len(after.transfers) == 1
    assert after.work_id != before.work_id
    assert not after.is_newer_tip(before.work_id)


def test_a_new_tip_makes_new_work_at_once(mine: Mine) -> None:
    before = mine.source.get_work()
    assert not mine.source.is_tip_changed(before.work_id)
    submit(mine.chain, mine_block(mine.chain.spec, build_genesis(mine.chain.spec)))
    assert mine.source.is_tip_changed(before.work_id)
    after = mine.source.get_work()
    assert after.parent.height == 1
    assert after.is_newer_tip(before.work_id)


def test_work_means_the_same_after_a_restart(mine: Mine) -> None:
    mine.mempool.add(build_transfer(mine.chain.spec, ALICE, BOB.public))
    other = WorkSource(mine.store, mine.chain, mine.mempool)
    assert mine.source.get_work().work_id == other.get_work().work_id


@pytest.mark.parametrize("work_id", ["", "0" * 64, "nonsense"])
def test_foreign_work_is_stale(mine: Mine, work_id: str) -> None:
    assert is_stale(work_id, mine.chain.tip.block_id)


async def test_waiting_ends_with_the_time(mine: Mine) -> None:
    work = mine.source.get_work()
    found = await asyncio.wait_for(wait_for_work(mine.source, EventBus("e"), work.work_id, 0.05), 20)
    assert found is work


async def test_waiting_for_nothing_in_particular_ends_at_once(mine: Mine) -> None:
    found = await asyncio.wait_for(wait_for_work(mine.source, EventBus("e"), None, 60), 20)
    assert found is mine.source.get_work()
