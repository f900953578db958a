"""The importer: order of deliveries, twins, dry runs, and what it counts."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from chain.chain import Chain
from chain.mempool import Mempool
from chain.records import Candidate, Commit
from chain.signatures import verify_signature
from chain.store import Store
from consensus.block import Header, Witness
from consensus.encoding import Hash32
from consensus.errors import BadDelivery, Code, ConsensusError, Duplicate, NotYet, RuleViolation
from consensus.params import ChainSpec
from consensus.task import Rung, Task
from node import importing
from node.importing import BlockImporter, Source
from node.verification import DirectEvaluator, EvaluatorUnavailable
from tests.builders import (
    ALICE,
    BOB,
    RUNGS,
    BuiltBlock,
    build_genesis,
    build_spec,
    build_transfer,
    build_witness,
    mine_block,
    mine_blocks,
    open_chain,
)
from tests.fakes import DummyWorkVerifier, FakeClock, build_refusal_mark

FALSE_MARK = build_refusal_mark(Code.WRONG_TRAIN_COUNT)
TWIN_MARK = b"ok twin"
PEER, OTHER, THIRD = (Source("peer", f"http://10.0.0.{n}") for n in (1, 2, 3))


class GatedEvaluator(DirectEvaluator):
    """Holds every verdict back until the test opens the gate."""

    def __init__(self, verifier: DummyWorkVerifier) -> None:
        super().__init__(verifier)
        self.gate = asyncio.Event()
        self.begun = asyncio.Event()

    async def check(self, task: Task, rung: Rung, header: Header, witness: Witness) -> None:
        self.begun.set()
        await self.gate.wait()
        await super().check(task, rung, header, witness)


class UnreadyEvaluator(DirectEvaluator):
    is_ready = False


@dataclass
class Bench:
    """An importer with everything around it."""

    spec: ChainSpec
    store: Store
    chain: Chain
    mempool: Mempool
    verifier: DummyWorkVerifier = field(default_factory=DummyWorkVerifier)
    clock: FakeClock = field(default_factory=lambda: FakeClock(2_000_000_000))
    commits: list[Commit] = field(default_factory=list)
    twins: dict[Hash32, Witness] = field(default_factory=dict)
    asked: list[tuple[Hash32, Hash32, Source]] = field(default_factory=list)

    def build_importer(self, evaluator: DirectEvaluator | None = None) -> BlockImporter:
        return BlockImporter(
            self.spec,
            self.chain,
            self.mempool,
            evaluator or DirectEvaluator(self.verifier),
            self.clock,
            self.commits.append,
            self.find_witness,
        )

    async def find_witness(self, block_id: Hash32, witness_id: Hash32, source: Source) -> Witness | None:
        self.asked.append((block_id, witness_id, source))
        return self.twins.get(witness_id)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    spec = build_spec()
    store, chain = open_chain(tmp_path, spec)
    yield Bench(spec, store, chain, Mempool(store, chain, verify_signature))
    store.close()


def make_false(bench: Bench, built: BuiltBlock, code: Code = Code.WRONG_TRAIN_COUNT) -> BuiltBlock:
    """The same header under a witness that fails."""
    rung = bench.spec.task.get_rung(built.header.difficulty)
    return built.with_witness(build_witness(bench.spec, rung, build_refusal_mark(code)))


def make_twin(bench: Bench, built: BuiltBlock, mark: bytes = TWIN_MARK) -> BuiltBlock:
    """The same header under another witness."""
    return built.with_witness(
        build_witness(bench.spec, bench.spec.task.get_rung(built.header.difficulty), mark)
    )


async def get_error(coroutine: asyncio.Task[Commit]) -> ConsensusError:
    with pytest.raises(ConsensusError) as caught:
        await coroutine
    return caught.value


async def test_commits_a_valid_block_and_tells_everybody(bench: Bench) -> None:
    transfer = build_transfer(bench.spec, ALICE, BOB.public)
    bench.mempool.add(transfer)
    importer = bench.build_importer()
    block = mine_block(bench.spec, build_genesis(bench.spec), [transfer])

    commit = await importer.submit(block.raw, PEER)

    assert commit.status == "active"
    assert bench.chain.tip.block_id == block.block_id
    assert bench.commits == [commit]
    assert bench.mempool.size == 0
    assert (importer.evaluated, importer.twins_evaluated) == (1, 0)


async def test_duplicate_costs_no_evaluation(bench: Bench) -> None:
    importer = bench.build_importer()
    block = mine_block(bench.spec, build_genesis(bench.spec))
    await importer.submit(block.raw, PEER)

    with pytest.raises(Duplicate):
        await importer.submit(make_twin(bench, block).raw, OTHER)

    assert importer.evaluated == len(bench.verifier.checked) == 1


async def test_rejects_false_witness_but_not_its_id(bench: Bench) -> None:
    importer = bench.build_importer()
    block = mine_block(bench.spec, build_genesis(bench.spec))

    with pytest.raises(BadDelivery) as caught:
        await importer.submit(make_false(bench, block, Code.WRONG_EVAL_COUNT).raw, PEER)

    assert caught.value.code is Code.WRONG_EVAL_COUNT
    assert bench.chain.tip.height == 0
    assert (await importer.submit(block.raw, OTHER)).status == "active"
    assert importer.evaluated == 2


async def test_second_delivery_waits_and_is_tried_after_a_bad_one(bench: Bench) -> None:
    evaluator = GatedEvaluator(bench.verifier)
    importer = bench.build_importer(evaluator)
    block = mine_block(bench.spec, build_genesis(bench.spec))
    bad = asyncio.create_task(importer.submit(make_false(bench, block).raw, PEER))
    await evaluator.begun.wait()
    good = asyncio.create_task(importer.submit(block.raw, OTHER))

    evaluator.gate.set()

    assert (await get_error(bad)).code is Code.WRONG_TRAIN_COUNT
    assert (await good).record.block_id == block.block_id


async def test_waiting_delivery_becomes_a_duplicate_after_a_good_one(bench: Bench) -> None:
    evaluator = GatedEvaluator(bench.verifier)
    importer = bench.build_importer(evaluator)
    block = mine_block(bench.spec, build_genesis(bench.spec))
    good = asyncio.create_task(importer.submit(block.raw, PEER))
    await evaluator.begun.wait()
    late = asyncio.create_task(importer.submit(make_twin(bench, block).raw, OTHER))

    evaluator.gate.set()

    await good
    assert (await get_error(late)).code is Code.DUPLICATE
    assert importer.evaluated == 1


async def test_one_source_has_one_delivery_waiting(bench: Bench) -> None:
    evaluator = GatedEvaluator(bench.verifier)
    importer = bench.build_importer(evaluator)
    block = mine_block(bench.spec, build_genesis(bench.spec))
    judged = asyncio.create_task(importer.submit(make_false(bench, block).raw, PEER))
    await evaluator.begun.wait()
    rivals = [asyncio.create_task(importer.submit(block.raw, OTHER)) for _ in range(2)]

    done, waiting = await asyncio.wait(rivals, return_when=asyncio.FIRST_COMPLETED)
    assert (await get_error(done.pop())).code is Code.PUT_OFF
    evaluator.gate.set()

    assert (await waiting.pop()).status == "active"
    assert (await get_error(judged)).code is Code.WRONG_TRAIN_COUNT


async def test_cancelled_delivery_leaves_its_place(bench: Bench) -> None:
    evaluator = GatedEvaluator(bench.verifier)
    importer = bench.build_importer(evaluator)
    block = mine_block(bench.spec, build_genesis(bench.spec))
    judged = asyncio.create_task(importer.submit(make_false(bench, block).raw, PEER))
    await evaluator.begun.wait()
    judged.cancel()
    await asyncio.wait([judged])
    evaluator.gate.set()

    assert (await importer.submit(block.raw, PEER)).status == "active"


async def test_rejects_more_deliveries_than_it_can_hold(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "MAX_DELIVERIES", 1)
    evaluator = GatedEvaluator(bench.verifier)
    importer = bench.build_importer(evaluator)
    block = mine_block(bench.spec, build_genesis(bench.spec))
    first = asyncio.create_task(importer.submit(block.raw, PEER))
    await evaluator.begun.wait()

    with pytest.raises(NotYet) as caught:
        await importer.submit(mine_block(bench.spec, build_genesis(bench.spec), nonce=1).raw, OTHER)

    assert caught.value.code is Code.PUT_OFF
    evaluator.gate.set()
    assert (await first).status == "active"


async def test_dry_run_evaluates_and_stores_nothing(bench: Bench) -> None:
    importer = bench.build_importer()
    block = mine_block(bench.spec, build_genesis(bench.spec))

    assert await importer.submit(block.raw, PEER, dry_run=True) is None
    assert (bench.chain.tip.height, bench.commits, importer.evaluated) == (0, [], 1)
    with pytest.raises(BadDelivery):
        await importer.submit(make_false(bench, block).raw, PEER, dry_run=True)

    # The proof is remembered: the block itself costs no second evaluation.
    assert (await importer.submit(block.raw, PEER)).status == "active"
    assert importer.evaluated == 2


async def test_child_of_a_twin_makes_the_parent_s_witness_be_evaluated(bench: Bench) -> None:
    importer = bench.build_importer()
    parent = mine_block(bench.spec, build_genesis(bench.spec))
    twin = make_twin(bench, parent)
    child = mine_block(bench.spec, twin)
    bench.twins[twin.witness.witness_id] = twin.witness
    await importer.submit(parent.raw, PEER)

    commit = await importer.submit(child.raw, OTHER)

    assert commit.status == "active"
    assert bench.asked == [(parent.block_id, twin.witness.witness_id, OTHER)]
    # The child's own witness first: a needless twin costs real work.
    assert bench.verifier.checked == [parent.block_id, child.block_id, parent.block_id]
    assert (importer.evaluated, importer.twins_evaluated) == (2, 1)
    with bench.store.read() as view:
        assert view.get_witness(parent.block_id) == twin.witness


async def test_false_child_of_a_twin_does_not_get_the_twin_evaluated(bench: Bench) -> None:
    importer = bench.build_importer()
    parent = mine_block(bench.spec, build_genesis(bench.spec))
    twin = make_twin(bench, parent)
    await importer.submit(parent.raw, PEER)

    with pytest.raises(BadDelivery):
        await importer.submit(make_false(bench, mine_block(bench.spec, twin)).raw, OTHER)

    assert bench.asked == []
    assert importer.twins_evaluated == 0


async def test_missing_parent_witness_is_not_yet_and_costs_no_second_evaluation(bench: Bench) -> None:
    importer = bench.build_importer()
    parent = mine_block(bench.spec, build_genesis(bench.spec))
    twin = make_twin(bench, parent)
    child = mine_block(bench.spec, twin)
    await importer.submit(parent.raw, PEER)

    with pytest.raises(NotYet) as caught:
        await importer.submit(child.raw, PEER)
    assert caught.value.code is Code.MISSING_PARENT_WITNESS
    bench.twins[twin.witness.witness_id] = twin.witness

    assert (await importer.submit(child.raw, PEER)).status == "active"
    assert importer.evaluated == 2


@pytest.mark.parametrize("mark", [FALSE_MARK, b"low"])
async def test_rejects_child_whose_named_parent_witness_fails(bench: Bench, mark: bytes) -> None:
    importer = bench.build_importer()
    parent = mine_block(bench.spec, build_genesis(bench.spec))
    witness = build_witness(bench.spec, RUNGS[1], mark)
    if mark == b"low":
        witness = Witness(0, 0, witness.solution)
    child = mine_block(bench.spec, parent, parent_witness=witness.witness_id)
    bench.twins[witness.witness_id] = witness
    await importer.submit(parent.raw, PEER)

    with pytest.raises(RuleViolation) as caught:
        await importer.submit(child.raw, PEER)

    assert caught.value.code is Code.WRONG_PARENT_WITNESS
    assert bench.chain.is_condemned(child.block_id)
    with pytest.raises(RuleViolation) as again:
        await importer.submit(child.raw, PEER)
    assert again.value.code is Code.CONDEMNED


async def test_claimed_work_opens_the_way_for_a_deep_branch(bench: Bench) -> None:
    importer = bench.build_importer()
    genesis = build_genesis(bench.spec)
    for block in mine_blocks(bench.spec, genesis, 4):
        await importer.submit(block.raw, PEER)
    rival = mine_block(bench.spec, genesis, nonce=7)

    with pytest.raises(NotYet) as caught:
        await importer.submit(rival.raw, PEER)
    assert caught.value.code is Code.PUT_OFF
    commit = await importer.submit(rival.raw, PEER, claimed_chain_work=bench.chain.tip.chain_work)

    assert commit.status == "side"


async def test_without_an_evaluator_nothing_is_judged(bench: Bench) -> None:
    importer = bench.build_importer(UnreadyEvaluator(bench.verifier))

    with pytest.raises(EvaluatorUnavailable):
        await importer.submit(b"", PEER)


async def test_commit_is_seen_through_when_its_sender_leaves(bench: Bench) -> None:
    importer = bench.build_importer()
    block = mine_block(bench.spec, build_genesis(bench.spec))
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()
    commit_itself = bench.chain.commit

    class SlowChain(Chain):
        def commit(self, *args: object, **kwargs: object) -> Commit:
            loop.call_soon_threadsafe(begun.set)
            return commit_itself(*args, **kwargs)  # type: ignore[arg-type]

    bench.chain.__class__ = SlowChain
    leaving = asyncio.create_task(importer.submit(block.raw, PEER))
    await begun.wait()
    leaving.cancel()
    await asyncio.wait([leaving])
    await importer.drain()

    assert [commit.record.block_id for commit in bench.commits] == [block.block_id]


async def test_delivery_that_was_pre_verified_before_another_s_commit_costs_no_evaluation(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    importer = bench.build_importer()
    block = mine_block(bench.spec, build_genesis(bench.spec))
    twin = make_twin(bench, block)
    checked, committed = threading.Event(), threading.Event()
    pre_verify = bench.chain.pre_verify

    def pre_verify_slowly(raw: bytes, *args: Any) -> Candidate:
        candidate = pre_verify(raw, *args)
        if raw == twin.raw:
            checked.set()
            assert committed.wait(10)
        return candidate

    monkeypatch.setattr(bench.chain, "pre_verify", pre_verify_slowly)
    late = asyncio.create_task(importer.submit(twin.raw, OTHER))
    assert await asyncio.to_thread(checked.wait, 10)

    await importer.submit(block.raw, PEER)
    committed.set()

    assert (await get_error(late)).code is Code.DUPLICATE
    assert importer.evaluated == 1
