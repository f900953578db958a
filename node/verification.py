"""Evaluating witnesses in processes of their own, so that the event loop never computes.

Owns the worker processes: start, queue, replacement after a crash, stop. What is evaluated and how is
training.evaluator's; what a verdict means for a block and its sender is node.importing's.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Protocol, TypeVar, TypeVarTuple

from consensus.block import Header, Witness
from consensus.encoding import Hash32
from consensus.errors import ConsensusError
from consensus.rules import WorkVerifier
from consensus.task import Rung, Task
from node.verification_worker import run_worker

LOG = logging.getLogger("freezenet.verification")
STOP_SECONDS = 5.0
"""How long a killed worker may take to disappear."""
TRIES = 2
"""A witness on which this many workers died is not judged here."""

Ts = TypeVarTuple("Ts")
Result = TypeVar("Result")


class EvaluatorUnavailable(Exception):
    """Nothing can be evaluated here now: no dataset yet, workers that will not run, or stopping."""


class Evaluator(Protocol):
    """Judges witnesses without holding up the event loop."""

    @property
    def is_ready(self) -> bool:
        """Whether `check` can give a verdict now."""

    async def check(self, task: Task, rung: Rung, header: Header, witness: Witness) -> None:
        """Raises BadDelivery with the code of what fails, EvaluatorUnavailable where nobody can tell."""


class DirectEvaluator:
    """A `WorkVerifier` called on the spot: for verifiers that cost nothing, and for single-threaded tools."""

    is_ready = True

    def __init__(self, verifier: WorkVerifier) -> None:
        self._verifier = verifier

    async def check(self, task: Task, rung: Rung, header: Header, witness: Witness) -> None:
        """Raises BadDelivery with the code of whatever fails."""
        self._verifier.check(task, rung, header, witness)


_Question = tuple[Task, Rung, Header, Witness]


@dataclass(frozen=True, slots=True)
class _Job:
    question: _Question
    verdict: asyncio.Future[None]


class _Worker:
    """One spawned process and the pipe to it. Its methods block, so they run on the pool's threads."""

    def __init__(self, dataset_root: Path, dataset_id: Hash32) -> None:
        self._dataset = (str(dataset_root), dataset_id)
        # A stop may come while a start is still under way on another thread.
        self._lock = threading.RLock()
        self._process: multiprocessing.process.BaseProcess | None = None
        self._pipe: Connection | None = None

    @property
    def pid(self) -> int | None:
        """The process's id, None where none runs."""
        process = self._process
        return None if process is None else process.pid

    def start(self) -> None:
        """Spawn the process and wait until it holds the dataset. Raises EvaluatorUnavailable."""
        with self._lock:
            self.kill()
            try:
                problem = self._spawn()
            except OSError as error:
                # No memory or descriptors for it now; the next question tries again.
                problem = f"a verification worker cannot be started: {error}"
            if problem is not None:
                self.kill()
                raise EvaluatorUnavailable(problem)

    def ask(self, question: _Question) -> ConsensusError | None:
        """The verdict on a witness. Raises EOFError or OSError where the process died."""
        with self._lock:
            if self._pipe is None:
                raise EOFError
            self._pipe.send(question)
            answer: ConsensusError | Exception | None = self._pipe.recv()
        if answer is not None and not isinstance(answer, ConsensusError):
            raise answer
        return answer

    def kill(self) -> None:
        """End the process and wait for it."""
        with self._lock:
            if self._process is not None:
                self._process.kill()
                self._process.join(STOP_SECONDS)
            if self._pipe is not None:
                self._pipe.close()
            self._process = self._pipe = None

    def interrupt(self) -> None:
        """End the process without waiting for anything; who waits for its answer sees an end of file."""
        process = self._process
        if process is not None:
            process.kill()

    def _spawn(self) -> str | None:
        """Start the process; what it answers when it is ready: None, or what went wrong. Raises OSError."""
        context = multiprocessing.get_context("spawn")
        self._pipe, far_end = context.Pipe()
        # Only the child may hold the far end, or its death would not show here as an end of file.
        with far_end:
            process = context.Process(
                target=run_worker, args=(far_end, *self._dataset), name="freezenet-verify", daemon=True
            )
            process.start()
        self._process = process
        try:
            problem: str | None = self._pipe.recv()
        except (EOFError, OSError):
            return "the verification worker died while it started"
        return problem


class VerificationPool:
    """Spawned workers, each with one torch thread and the whole dataset, that judge one witness at a time."""

    def __init__(self, dataset_root: Path, dataset_id: Hash32, workers: int = 1) -> None:
        self._workers = [_Worker(dataset_root, dataset_id) for _ in range(workers)]
        self._threads: ThreadPoolExecutor | None = None
        self._jobs: asyncio.Queue[_Job] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def is_ready(self) -> bool:
        """Whether the pool is started and not stopped."""
        return bool(self._tasks)

    @property
    def worker_pids(self) -> list[int]:
        """The ids of the processes."""
        return [worker.pid for worker in self._workers if worker.pid is not None]

    async def start(self) -> None:
        """Return when every worker holds the dataset. Raises EvaluatorUnavailable with a failure's reason."""
        self._threads = ThreadPoolExecutor(len(self._workers), thread_name_prefix="verification")
        starts = (self._run(worker.start) for worker in self._workers)
        problems = [end for end in await asyncio.gather(*starts, return_exceptions=True) if end is not None]
        if problems:
            await self.stop()
            raise problems[0]
        self._tasks = [asyncio.create_task(self._serve(worker)) for worker in self._workers]

    async def stop(self) -> None:
        """End every worker at once; whoever waits for a verdict gets EvaluatorUnavailable.

        May be called in any state; `start` begins anew.
        """
        for task in self._tasks:
            task.cancel()
        for worker in self._workers:
            worker.interrupt()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        while not self._jobs.empty():
            _refuse(self._jobs.get_nowait(), "the node is stopping")
        if self._threads is not None:
            await asyncio.gather(*(self._run(worker.kill) for worker in self._workers))
            self._threads.shutdown(wait=False)
            self._threads = None

    async def check(self, task: Task, rung: Rung, header: Header, witness: Witness) -> None:
        """Raises BadDelivery with the code of what fails, EvaluatorUnavailable where nobody can tell."""
        if not self.is_ready:
            raise EvaluatorUnavailable("no verification worker runs")
        job = _Job((task, rung, header, witness), asyncio.get_running_loop().create_future())
        self._jobs.put_nowait(job)
        await job.verdict

    async def _serve(self, worker: _Worker) -> None:
        while True:
            job = await self._jobs.get()
            # Whoever asked may be gone by now: a verdict for nobody is a waste.
            if job.verdict.done():
                continue
            try:
                await self._judge(worker, job)
            finally:
                _refuse(job, "the node is stopping")

    async def _judge(self, worker: _Worker, job: _Job) -> None:
        for _ in range(TRIES):
            try:
                answer = await self._run(worker.ask, job.question)
            except (EOFError, OSError):
                LOG.warning("a verification worker died; starting another")
                if not await self._restart(worker, job):
                    return
            except Exception as error:
                LOG.exception("a verification worker failed")
                _refuse(job, f"the evaluation failed: {error}")
                return
            else:
                _answer(job, answer)
                return
        _refuse(job, f"{TRIES} workers died on this witness")

    async def _restart(self, worker: _Worker, job: _Job) -> bool:
        try:
            await self._run(worker.start)
        except EvaluatorUnavailable as error:
            LOG.error("no verification worker: %s", error)
            _refuse(job, str(error))
            return False
        return True

    def _run(self, function: Callable[[*Ts], Result], *args: *Ts) -> asyncio.Future[Result]:
        assert self._threads is not None, "the pool is not started"
        return asyncio.get_running_loop().run_in_executor(self._threads, function, *args)


def _answer(job: _Job, answer: ConsensusError | None) -> None:
    if job.verdict.done():
        return
    if answer is None:
        job.verdict.set_result(None)
    else:
        job.verdict.set_exception(answer)


def _refuse(job: _Job, reason: str) -> None:
    if not job.verdict.done():
        job.verdict.set_exception(EvaluatorUnavailable(reason))
