"""The verification pool with real processes and the exact evaluator, on a tiny dataset."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from consensus.block import Header, Witness
from consensus.dataset import encode_split
from consensus.errors import BadDelivery, Code
from consensus.params import ChainSpec
from consensus.task import Rung, Task
from dataset_server.store import DatasetStore
from node.verification import DirectEvaluator, EvaluatorUnavailable, VerificationPool
from tests.builders import build_dataset, build_genesis, build_header, build_spec, get_rung, solve_witness
from tests.fakes import DummyWorkVerifier

Question = tuple[Task, Rung, Header, Witness]


@pytest.fixture(scope="module")
def spec() -> ChainSpec:
    return build_spec()


@pytest.fixture(scope="module")
def question(spec: ChainSpec) -> Question:
    """A header with a witness that really solves it."""
    genesis = build_genesis(spec)
    header = build_header(spec, genesis)
    rung = get_rung(spec, genesis, header)
    return spec.task, rung, header, solve_witness(spec, header, rung)


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("datasets")
    dataset = build_dataset()
    train, eval_ = (encode_split(split.labels, split.pixels) for split in (dataset.train, dataset.eval))
    DatasetStore(root).put(dataset.spec, train, eval_)
    return root


@pytest_asyncio.fixture
async def pool(spec: ChainSpec, datasets: Path) -> AsyncIterator[VerificationPool]:
    pool = VerificationPool(datasets, spec.task.dataset_id)
    await pool.start()
    yield pool
    await pool.stop()


def stop_process(pid: int) -> None:
    """Suspend a worker: a check sent to it now is under way until it goes on or dies."""
    os.kill(pid, signal.SIGSTOP)


@contextmanager
def limit_descriptors(spare: int) -> Iterator[None]:
    """Let this process open so many descriptors more and none beyond."""
    free = [os.dup(0) for _ in range(spare + 1)]
    for descriptor in free:
        os.close(descriptor)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free[-1], hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_worker_judges_exactly_and_outlives_a_crash(pool: VerificationPool, question: Question) -> None:
    task, rung, header, witness = question
    await pool.check(*question)
    too_high = replace(witness, eval_correct=witness.eval_correct + 1)
    with pytest.raises(BadDelivery) as caught:
        await pool.check(task, rung, header, too_high)
    assert caught.value.code is Code.WRONG_EVAL_COUNT
    with pytest.raises(BadDelivery) as caught:
        await pool.check(task, rung, header, replace(witness, solution=witness.solution[1:]))
    assert caught.value.code is Code.SOLUTION_LENGTH

    (pid,) = pool.worker_pids
    stop_process(pid)
    under_way = [asyncio.create_task(pool.check(*question)) for _ in range(2)]
    await asyncio.sleep(0)
    os.kill(pid, signal.SIGKILL)

    await asyncio.gather(*under_way)
    assert pool.worker_pids != [pid]


async def test_stop_answers_whoever_waits(pool: VerificationPool, question: Question) -> None:
    (pid,) = pool.worker_pids
    stop_process(pid)
    waiting = [asyncio.create_task(pool.check(*question)) for _ in range(3)]
    waiting[1].cancel()
    await asyncio.sleep(0)

    await pool.stop()

    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    kinds = [EvaluatorUnavailable, asyncio.CancelledError, EvaluatorUnavailable]
    assert [type(outcome) for outcome in outcomes] == kinds
    assert not pool.is_ready
    assert pool.worker_pids == []
    with pytest.raises(EvaluatorUnavailable):
        await pool.check(*question)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_witness_that_kills_workers_is_not_judged(pool: VerificationPool, question: Question) -> None:
    check = asyncio.create_task(pool.check(*question))
    killed: set[int] = set()
    async with asyncio.timeout(60):
        while not check.done():
            for pid in set(pool.worker_pids) - killed:
                stop_process(pid)
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
            await asyncio.sleep(0.01)

    with pytest.raises(EvaluatorUnavailable):
        check.result()


async def test_pool_outlives_a_worker_that_cannot_be_replaced_at_once(
    pool: VerificationPool, question: Question
) -> None:
    (pid,) = pool.worker_pids
    os.kill(pid, signal.SIGKILL)
    # The dead worker's descriptors are enough for a pipe to the next one, not for its start.
    with limit_descriptors(0), pytest.raises(EvaluatorUnavailable, match="cannot be started"):
        await pool.check(*question)

    async with asyncio.timeout(60):
        await pool.check(*question)


@pytest.mark.parametrize("spare", [1, 2])
async def test_pool_that_cannot_spawn_says_so(datasets: Path, spec: ChainSpec, spare: int) -> None:
    """With one descriptor there is no pipe, with two there is no process."""
    pool = VerificationPool(datasets, spec.task.dataset_id)
    with limit_descriptors(spare), pytest.raises(EvaluatorUnavailable, match="cannot be started"):
        await pool.start()

    assert pool.worker_pids == []
    await pool.start()
    await pool.stop()


async def test_pool_starts_once_the_dataset_is_there(
    tmp_path: Path, datasets: Path, spec: ChainSpec, question: Question
) -> None:
    root = tmp_path / "datasets"
    pool = VerificationPool(root, spec.task.dataset_id)

    with pytest.raises(EvaluatorUnavailable, match=spec.task.dataset_id.hex()):
        await pool.start()

    assert not pool.is_ready
    shutil.copytree(datasets, root)
    await pool.start()
    await pool.check(*question)
    await pool.stop()


async def test_direct_evaluator_asks_its_verifier(question: Question) -> None:
    evaluator = DirectEvaluator(DummyWorkVerifier())

    assert evaluator.is_ready
    with pytest.raises(BadDelivery):
        await evaluator.check(*question)
