"""The mining loop against nodes in process: fresh work, stale work, verdicts, failing nodes and trainers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from consensus.errors import Code, Outcome
from consensus.task import Rung
from node.miner.client import NodePool
from node.miner.journal import Event, Journal, JournalTail
from node.miner.mining import (
    RETRY_SECONDS,
    SUBMIT_PATIENCE_SECONDS,
    TRAINER_LOSSES_ALLOWED,
    Miner,
    MiningFailed,
    MiningOrder,
)
from tests.node.miner.fake_node import MINER, FakeNode, build_tiny_spec, build_transport
from tests.node.miner.fake_trainer import LOOKED, ScriptedTrainer


class Events(list[Event]):
    """Recorded events, and a way to wait for one."""

    def __init__(self) -> None:
        super().__init__()
        self._news = asyncio.Event()

    def note(self, event: Event) -> None:
        self.append(event)
        self._news.set()

    async def wait_for(self, name: str) -> None:
        async with asyncio.timeout(10):
            while all(event["event"] != name for event in self):
                self._news.clear()
                await self._news.wait()


class Clock:
    """Time that passes where somebody sleeps, and nowhere else."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


@dataclass
class World:
    """A miner and every event it recorded."""

    miner: Miner
    events: Events
    path: Path
    clock: Clock

    def get_names(self) -> list[str]:
        return [event["event"] for event in self.events if event["event"] != "progress"]

    def count(self, name: str) -> int:
        return self.get_names().count(name)


@asynccontextmanager
async def build_world(
    tmp_path: Path, trainer: ScriptedTrainer, order: MiningOrder, **nodes: FakeNode
) -> AsyncIterator[World]:
    path, events, clock = tmp_path / "status.jsonl", Events(), Clock()
    urls = [f"http://{name}" for name in nodes]
    async with NodePool(urls, clock, build_transport(**nodes)) as pool:
        with Journal(path, lambda: 1_700_000_000.0, (events.note,)) as journal:
            source = random.Random(1)
            miner = Miner(order, pool, trainer, journal, source, clock, clock.sleep)
            yield World(miner, events, path, clock)


async def mine(tmp_path: Path, script: list[str], attempts: int, **nodes: FakeNode) -> World:
    trainer = ScriptedTrainer(script)
    async with build_world(tmp_path, trainer, MiningOrder(MINER, attempts), **nodes) as world:
        async with asyncio.timeout(20):
            await world.miner.run()
    assert trainer.is_stopped
    return world


async def run_beside(world: World, act: Callable[[], Awaitable[None]]) -> None:
    """Runs the miner to its end while `act` changes its surroundings."""
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        group.create_task(world.miner.run())
        await act()


async def test_mines_a_block_after_a_miss(tmp_path: Path) -> None:
    node = FakeNode()
    world = await mine(tmp_path, ["missed", "found"], 2, n1=node)
    assert world.get_names() == ["attempt", "missed", "attempt", "found", "accepted", "stopped"]
    assert [block.header.height for block in node.blocks] == [1]
    assert world.events[-2]["status"] == "active"


async def test_the_block_has_the_nonce_that_was_trained_for(tmp_path: Path) -> None:
    node, trainer = FakeNode(), ScriptedTrainer(["found"])
    async with build_world(tmp_path, trainer, MiningOrder(MINER, 1), n1=node) as world:
        await world.miner.run()
    asked, mined = trainer.requests[0].header, node.blocks[0].header
    assert mined == replace(asked, nonce=(asked.nonce + LOOKED) % 2**64)
    found = next(event for event in world.events if event["event"] == "found")
    assert found["id"] == mined.block_id.hex()


async def test_each_attempt_takes_fresh_work_and_another_nonce(tmp_path: Path) -> None:
    node = FakeNode()
    trainer = ScriptedTrainer(["missed"])
    async with build_world(tmp_path, trainer, MiningOrder(MINER, 3), n1=node) as world:
        await world.miner.run()
    nonces = {request.header.nonce for request in trainer.requests}
    assert len(nonces) == 3
    assert {replace(request.header, nonce=0) for request in trainer.requests} == {
        replace(trainer.requests[0].header, nonce=0)
    }
    assert len({request.seed for request in trainer.requests}) == 3


async def test_the_journal_holds_targets_and_counts(tmp_path: Path) -> None:
    world = await mine(tmp_path, ["missed"], 1, n1=FakeNode())
    events = list(JournalTail(world.path).read_new())
    assert [event["event"] for event in events] == ["attempt", "progress", "missed", "stopped"]
    assert events[1] == {
        "time": 1_700_000_000.0,
        "event": "progress",
        "attempt": 1,
        "parent": "00" * 32,
        "height": 1,
        "frozen": 9_000,
        "train_target": 4,
        "eval_target": 3,
        "samples": 50,
        "total_samples": 100,
        "train_correct": 2,
        "eval_correct": 1,
        "seconds": 0.25,
    }


async def test_a_new_tip_cancels_the_attempt(tmp_path: Path) -> None:
    node, trainer = FakeNode(), ScriptedTrainer(["hang", "missed"])

    async def act() -> None:
        await trainer.hanging.wait()
        await node.advance()

    async with build_world(tmp_path, trainer, MiningOrder(MINER, 2), n1=node) as world:
        await run_beside(world, act)
    assert world.get_names() == ["attempt", "stale", "attempt", "missed", "stopped"]
    assert [request.header.height for request in trainer.requests] == [1, 2]
    assert {request.interval for request in trainer.requests} == {node.spec.params.target_interval}


async def test_new_transactions_do_not_cancel_the_attempt(tmp_path: Path) -> None:
    node, trainer = FakeNode(), ScriptedTrainer(["hang", "missed"])
    polls = "GET /v1/mining/template"

    async def act() -> None:
        await trainer.hanging.wait()
        before = node.requests.count(polls)
        await node.refresh_transactions()
        while node.requests.count(polls) < before + 1:
            await asyncio.sleep(0)
        assert trainer.hanging.is_set()
        await node.advance()

    async with build_world(tmp_path, trainer, MiningOrder(MINER, 1), n1=node) as world:
        await run_beside(world, act)
    assert world.count("stale") == 1


async def test_a_failing_long_poll_is_tried_again(tmp_path: Path) -> None:
    node, trainer = FakeNode(), ScriptedTrainer(["hang", "missed"])

    async def act() -> None:
        await trainer.hanging.wait()
        node.template_problems += [(503, "internal"), (404, "not-found")]
        await node.refresh_transactions()
        while node.template_problems:
            await asyncio.sleep(0)
        assert trainer.hanging.is_set()
        await node.advance()

    async with build_world(tmp_path, trainer, MiningOrder(MINER, 2), n1=node) as world:
        await run_beside(world, act)
    assert world.get_names() == ["attempt", "stale", "attempt", "missed", "stopped"]


async def test_dry_run_stores_nothing(tmp_path: Path) -> None:
    node = FakeNode()
    order = MiningOrder(MINER, 1, is_dry_run=True)
    async with build_world(tmp_path, ScriptedTrainer(["found"]), order, n1=node) as world:
        await world.miner.run()
    assert (len(node.blocks), len(node.dry_runs)) == (0, 1)
    assert world.events[-2]["dry_run"] is True


async def test_a_rejected_block_is_told_with_its_code(tmp_path: Path) -> None:
    node = FakeNode(problems=[(422, "claim-below-rung")])
    world = await mine(tmp_path, ["found", "missed"], 2, n1=node)
    assert world.get_names()[:3] == ["attempt", "found", "rejected"]
    assert world.events[3]["code"] == "claim-below-rung"


async def test_offers_a_found_block_again_after_a_busy_answer(tmp_path: Path) -> None:
    node = FakeNode(problems=[(503, "busy"), (429, "too-many-requests")])
    world = await mine(tmp_path, ["found"], 1, n1=node)
    assert len(node.blocks) == 1
    assert world.get_names()[-4:] == ["node-lost", "node-found", "accepted", "stopped"]


@pytest.mark.parametrize(
    ("status", "code"),
    [(425, str(code)) for code in Code if code.outcome is Outcome.NOT_YET] + [(408, "too-slow")],
)
async def test_offers_a_block_again_that_was_not_judged(tmp_path: Path, status: int, code: str) -> None:
    node = FakeNode(problems=[(status, code)] * 2)
    world = await mine(tmp_path, ["found"], 1, n1=node)
    assert len(node.blocks) == 1
    assert world.get_names()[-2:] == ["accepted", "stopped"]


async def test_a_block_that_a_node_has_already_is_accepted(tmp_path: Path) -> None:
    node = FakeNode(problems=[(503, "storage-failed"), (409, "duplicate")])
    world = await mine(tmp_path, ["found"], 1, n1=node)
    assert world.get_names()[-4:] == ["node-lost", "node-found", "accepted", "stopped"]
    assert world.events[-2]["status"] == "duplicate"


@pytest.mark.parametrize(
    ("status", "code", "told"), [(425, "from-the-future", "from-the-future"), (503, "too-busy", "node-lost")]
)
async def test_gives_a_block_up_that_nobody_judges(tmp_path: Path, status: int, code: str, told: str) -> None:
    node = FakeNode(problems=[(status, code)] * 100)
    world = await mine(tmp_path, ["found"], 1, n1=node)
    assert world.get_names()[-2:] == ["rejected", "stopped"]
    assert world.events[-2]["code"] == told
    assert world.clock.now == SUBMIT_PATIENCE_SECONDS + node.spec.params.target_interval // 4


@pytest.mark.parametrize("code", ["unknown-parent", "from-the-future", "put-off"])
async def test_a_block_that_one_node_does_not_judge_is_shown_to_the_next(tmp_path: Path, code: str) -> None:
    behind, node = FakeNode(problems=[(425, code)] * 100), FakeNode()
    world = await mine(tmp_path, ["found"], 1, n1=behind, n2=node)
    assert world.get_names()[-2:] == ["accepted", "stopped"]
    assert (len(node.blocks), world.clock.pauses) == (1, [])


@pytest.mark.parametrize(("retry_after", "pause"), [("7", 7.0), ("86400", 60.0), ("soon", RETRY_SECONDS)])
async def test_leaves_a_node_alone_as_long_as_it_asks(tmp_path: Path, retry_after: str, pause: float) -> None:
    busy = [(503, "too-busy")]
    node = FakeNode(problems=busy * 2, template_problems=list(busy), retry_after=retry_after)
    world = await mine(tmp_path, ["found"], 1, n1=node)
    patience = SUBMIT_PATIENCE_SECONDS + node.spec.params.target_interval // 4
    assert world.clock.pauses == [pause, pause, min(pause, patience - pause)]
    assert len(node.blocks) == 1


async def test_waits_for_a_node_that_is_gone(tmp_path: Path) -> None:
    node, trainer = FakeNode(is_down=True), ScriptedTrainer(["missed"])
    async with build_world(tmp_path, trainer, MiningOrder(MINER, 1), n1=node) as world:

        async def act() -> None:
            await world.events.wait_for("node-lost")
            node.is_down = False

        await run_beside(world, act)
    assert world.get_names() == ["node-lost", "node-found", "attempt", "missed", "stopped"]


async def test_waits_for_a_template_that_can_be_mined(tmp_path: Path) -> None:
    node, trainer = FakeNode(rung=Rung(9_000, 4, 3, 999)), ScriptedTrainer(["missed"])
    async with build_world(tmp_path, trainer, MiningOrder(MINER, 1), n1=node) as world:

        async def act() -> None:
            await world.events.wait_for("bad-template")
            node.rung = None

        await run_beside(world, act)
    assert world.events[0]["node"] == "http://n1"
    assert world.events[0]["reason"].startswith("the template's rung")
    assert world.get_names()[-3:] == ["attempt", "missed", "stopped"]


async def test_waits_for_a_node_that_refuses_templates(tmp_path: Path) -> None:
    node = FakeNode(template_problems=[(404, "not-found")])
    world = await mine(tmp_path, ["missed"], 1, n1=node)
    assert world.get_names() == ["bad-template", "attempt", "missed", "stopped"]


async def test_fails_over_to_the_next_node(tmp_path: Path) -> None:
    first, second = FakeNode(is_down=True), FakeNode()
    world = await mine(tmp_path, ["found"], 1, n1=first, n2=second)
    assert len(second.blocks) == 1
    assert world.events[-2]["node"] == "http://n2"


async def test_refuses_a_node_of_another_chain(tmp_path: Path) -> None:
    first, second = FakeNode(), FakeNode(build_tiny_spec("other"))
    trainer = ScriptedTrainer(["hang", "missed"])
    async with build_world(tmp_path, trainer, MiningOrder(MINER, 2), n1=first, n2=second) as world:

        async def act() -> None:
            await trainer.hanging.wait()
            first.is_down = True
            trainer.cancel()
            await world.events.wait_for("node-lost")
            first.is_down = False

        await run_beside(world, act)
    assert second.requests.count("GET /v1/mining/template") == 0


async def test_restarts_a_lost_trainer(tmp_path: Path) -> None:
    world = await mine(tmp_path, ["lose", "lose", "missed"], 1, n1=FakeNode())
    assert world.count("trainer-lost") == 2


async def test_a_finished_attempt_makes_up_for_lost_trainers(tmp_path: Path) -> None:
    losses = ["lose"] * (TRAINER_LOSSES_ALLOWED - 1)
    world = await mine(tmp_path, [*losses, "missed", *losses, "missed"], 2, n1=FakeNode())
    assert world.count("trainer-lost") == 2 * len(losses)


async def test_gives_up_on_a_trainer_that_always_dies(tmp_path: Path) -> None:
    with pytest.raises(MiningFailed, match="5 times in a row"):
        await mine(tmp_path, ["lose"], 1, n1=FakeNode())
