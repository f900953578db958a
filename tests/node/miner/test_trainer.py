"""The trainer process: results, cancels, replacement, and an end with its miner."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from node.miner.trainer import (
    BuildAttempt,
    ProcessTrainer,
    TrainerLost,
    TrainerSetup,
    TrainRequest,
)
from tests.node.miner.fake_node import build_tiny_spec
from tests.node.miner.fake_trainer import (
    build_broken,
    build_deaf,
    build_instant,
    build_mortal,
    build_never,
    build_patient,
    build_talkative,
    build_without_data,
)
from training.outcome import Progress

SPEC = build_tiny_spec()


def build_setup() -> TrainerSetup:
    return TrainerSetup(SPEC.task, SPEC.dataset.dataset_id, Path("unused"), "cpu", 1)


def build_request(seed: int = 1) -> TrainRequest:
    return TrainRequest(SPEC.genesis, SPEC.task.rungs[0], seed, 1.0)


@asynccontextmanager
async def running(build: BuildAttempt, cancel_grace_seconds: float = 3.0) -> AsyncIterator[ProcessTrainer]:
    trainer = ProcessTrainer(build_setup(), build, cancel_grace_seconds)
    try:
        await trainer.start()
        yield trainer
    finally:
        await trainer.stop()


def ignore(_progress: Progress) -> None:
    pass


async def test_finds_and_reports() -> None:
    reports: list[Progress] = []
    async with running(build_instant) as trainer:
        result = await trainer.train(build_request(), reports.append)
        first = trainer.pid
        assert (await trainer.train(build_request(), ignore)).outcome == "found"
        assert trainer.pid == first
    assert result.witness is not None
    assert [progress.samples for progress in reports] == [100]


async def test_reports_are_few() -> None:
    reports: list[Progress] = []
    async with running(build_talkative) as trainer:
        await trainer.train(build_request(), reports.append)
    assert 0 < len(reports) < 100


async def test_cancel_ends_an_attempt_and_the_process_lives_on() -> None:
    async with running(build_patient) as trainer:
        pid = trainer.pid
        for _ in range(2):
            result = await trainer.train(build_request(), lambda _: trainer.cancel())
            assert result.outcome == "cancelled"
        assert trainer.pid == pid


async def test_replaces_a_trainer_that_does_not_yield() -> None:
    async with running(build_deaf, cancel_grace_seconds=0.05) as trainer:
        with pytest.raises(TrainerLost):
            await trainer.train(build_request(seed=0), lambda _: trainer.cancel())
        await trainer.start()
        assert (await trainer.train(build_request(), ignore)).outcome == "found"


async def test_replaces_a_trainer_that_was_killed() -> None:
    async with running(build_mortal) as trainer:
        with pytest.raises(TrainerLost, match="code -9"):
            await trainer.train(build_request(seed=0), ignore)
        await trainer.start()
        assert (await trainer.train(build_request(), ignore)).outcome == "found"


async def test_tells_of_a_trainer_that_cannot_be_set_up() -> None:
    trainer = ProcessTrainer(build_setup(), build_never)
    with pytest.raises(TrainerLost, match="code 7"):
        await trainer.start()
    assert trainer.pid is None


@pytest.mark.parametrize(
    ("build", "line"),
    [
        (build_broken, "OSError: the disk is broken"),
        (build_without_data, "EOFError: the dataset is cut short"),
    ],
)
async def test_errors_of_the_work_are_shown(
    build: BuildAttempt, line: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(TrainerLost, match="code 1"):
        async with running(build) as trainer:
            await trainer.train(build_request(), ignore)
    assert line in capfd.readouterr().err


async def test_a_late_cancel_harms_no_later_attempt() -> None:
    async with running(build_instant, cancel_grace_seconds=0.0) as trainer:
        await trainer.train(build_request(), ignore)
        trainer.cancel()
        assert (await trainer.train(build_request(), ignore)).outcome == "found"


MINER_SCRIPT = """
import asyncio, sys
from node.miner.trainer import ProcessTrainer
from tests.node.miner.fake_trainer import build_patient
from tests.node.miner.test_trainer import build_request, build_setup

async def main():
    trainer = ProcessTrainer(build_setup(), build_patient)
    await trainer.start()
    await trainer.train(build_request(), lambda _: print(trainer.pid, flush=True))

if __name__ == "__main__":
    asyncio.run(main())
"""


async def test_the_trainer_ends_when_its_miner_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "miner.py"
    script.write_text(MINER_SCRIPT, encoding="utf-8")
    root = Path(__file__).parents[3]
    with subprocess.Popen(
        [sys.executable, str(script)],
        cwd=root,
        env={"PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as miner:
        assert miner.stdout is not None
        assert miner.stderr is not None
        trainer = psutil.Process(int(miner.stdout.readline()))
        miner.kill()
        assert miner.stderr.read() == b""
    await wait_until(lambda: not trainer.is_running() or trainer.status() == psutil.STATUS_ZOMBIE)


async def wait_until(is_true: Callable[[], bool], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not is_true():
            await asyncio.sleep(0.02)
