"""The trainer: a spawned process that holds torch and the dataset and makes one attempt after the other.

Owns the process, its messages and its replacement when it dies or does not yield. What to train and what a
result is worth is `node.miner.mining`'s; training is `training.attempt`'s. Only the child imports torch.

The pipe is the cancel event: whatever arrives while an attempt runs cancels it, and so does the pipe's end: a
trainer stops within one step or look when its miner is killed.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import ParamSpec, Protocol, TypeVar

from consensus.block import Header, Witness
from consensus.encoding import Hash32
from consensus.task import Rung, Task
from training.outcome import Outcome, Progress

CANCEL_GRACE_SECONDS = 3.0
"""A trainer that has not yielded this long after a cancel is replaced; it should within 0.2 s."""
_STOP_GRACE_SECONDS = 1.0
_REPORT_INTERVAL_SECONDS = 0.25
_RENEWED_SHARE = 0.5
"""Of an interval, in which networks that have ended are followed by others; then comes a fresh template."""

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class TrainerSetup:
    """What a trainer holds for its whole life."""

    task: Task
    dataset_id: Hash32
    dataset_root: Path
    """Root of the dataset store that has the dataset."""
    device: str
    """cpu, cuda, cuda:1, … or auto."""
    threads: int
    """Threads of torch on the CPU."""


@dataclass(frozen=True, slots=True)
class TrainRequest:
    """One attempt, with up to as many networks side by side as the device takes."""

    header: Header
    """Of the first network, nonce included; counted up from there."""
    rung: Rung
    seed: int
    """Of the first network's free weights and order of samples."""
    interval: float
    """Seconds that the chain aims at between blocks: how much is worth taking on at once."""


@dataclass(frozen=True, slots=True)
class TrainResult:
    """How an attempt ended."""

    outcome: Outcome
    witness: Witness | None
    """Counted exactly; there iff the outcome is found."""
    networks: int
    """Trained, each under a header of its own."""
    samples: int
    """Of all networks together."""
    multiply_accumulates: int
    train_correct: int
    """Of the network that won or came furthest."""
    eval_correct: int
    """The same; 0 where no count was worth it."""
    seconds: float
    nonce: int
    """Of that network's header: the request's, or one counted up from it."""


RunAttempt = Callable[[TrainRequest, Callable[[], bool], Callable[[Progress], None]], TrainResult]
"""(request, is_cancelled, report) → result; what a set-up trainer does for each request."""
BuildAttempt = Callable[[TrainerSetup], RunAttempt]
"""Runs in the child, once; a function at the top of a module, for it travels by name."""
Report = Callable[[Progress], None]


class TrainerLost(Exception):
    """The trainer died, or was ended because it did not yield; the next request starts another one."""


class Trainer(Protocol):
    """Trains one request at a time."""

    async def start(self) -> None:
        """Gets ready, which can take seconds; at once where it is. Raises TrainerLost."""

    async def train(self, request: TrainRequest, report: Report) -> TrainResult:
        """Raises TrainerLost."""

    def cancel(self) -> None:
        """Asks the attempt under way to end; harmless when there is none."""

    async def stop(self) -> None:
        """Ends the trainer."""


class _MinerGone(Exception):
    """In the child: the miner's end of the pipe is closed."""


@dataclass(frozen=True, slots=True)
class _Ready:
    """The first message of a child that is set up."""


class ProcessTrainer:
    """A trainer in a process of its own, started anew by `start` after each loss."""

    def __init__(
        self,
        setup: TrainerSetup,
        build_attempt: BuildAttempt,
        cancel_grace_seconds: float = CANCEL_GRACE_SECONDS,
    ) -> None:
        self._setup = setup
        self._build_attempt = build_attempt
        self._cancel_grace_seconds = cancel_grace_seconds
        self._child: _Child | None = None
        self._is_training = False
        self._overdue: asyncio.TimerHandle | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the trainer that lives now."""
        return self._child.process.pid if self._child else None

    async def start(self) -> None:
        """Returns once a child is set up. Raises TrainerLost."""
        if self._child is not None:
            return
        self._child = _Child(self._setup, self._build_attempt)
        try:
            await self._child.receive_ready()
        except (TrainerLost, asyncio.CancelledError):
            await self.stop()
            raise

    async def train(self, request: TrainRequest, report: Report) -> TrainResult:
        """The result of one attempt. Raises TrainerLost."""
        if self._child is None:
            raise TrainerLost("the trainer was not started")
        try:
            self._child.send(request)
            self._is_training = True
            return await self._child.receive_result(report)
        except (TrainerLost, asyncio.CancelledError):
            await self.stop()
            raise
        finally:
            self._is_training = False
            self._forget_cancel()

    def cancel(self) -> None:
        """Asks the attempt to end, and ends the whole process where it does not in time."""
        if self._child is None or not self._is_training or self._overdue is not None:
            return
        self._child.cancel()
        loop = asyncio.get_running_loop()
        self._overdue = loop.call_later(self._cancel_grace_seconds, self._child.process.kill)

    async def stop(self) -> None:
        """Ends the process, by force where it does not yield."""
        child, self._child = self._child, None
        self._forget_cancel()
        if child is not None:
            await child.stop()

    def _forget_cancel(self) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None


class _Child:
    """One process and this side of its pipe."""

    def __init__(self, setup: TrainerSetup, build_attempt: BuildAttempt) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(
            target=run_trainer, args=(theirs, setup, build_attempt), name="freezenet-trainer", daemon=True
        )
        self.process.start()
        # Only the child may hold its end, or its death would not end the pipe.
        theirs.close()
        self._inbox: asyncio.Queue[object] = asyncio.Queue()
        asyncio.get_running_loop().add_reader(self._pipe.fileno(), self._read)

    def send(self, request: TrainRequest) -> None:
        try:
            self._pipe.send(request)
        except OSError as error:
            raise TrainerLost("the trainer is gone") from error

    def cancel(self) -> None:
        try:
            self._pipe.send(None)
        except OSError:
            # It is dead; whoever waits for its answer is told by the end of the pipe.
            return

    async def receive_ready(self) -> None:
        while not isinstance(await self._receive(), _Ready):
            pass

    async def receive_result(self, report: Report) -> TrainResult:
        while True:
            message = await self._receive()
            if isinstance(message, TrainResult):
                return message
            if isinstance(message, Progress):
                report(message)

    async def _receive(self) -> object:
        message = await self._inbox.get()
        if isinstance(message, EOFError):
            await asyncio.to_thread(self.process.join, _STOP_GRACE_SECONDS)
            raise TrainerLost(f"the trainer ended with code {self.process.exitcode}")
        return message

    async def stop(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pipe.fileno())
        self._pipe.close()
        await asyncio.to_thread(self.process.join, _STOP_GRACE_SECONDS)
        if self.process.is_alive():
            self.process.kill()
            await asyncio.to_thread(self.process.join)
        self.process.close()

    def _read(self) -> None:
        try:
            self._inbox.put_nowait(self._pipe.recv())
        except (EOFError, OSError):
            asyncio.get_running_loop().remove_reader(self._pipe.fileno())
            self._inbox.put_nowait(EOFError())


def run_trainer(pipe: Connection, setup: TrainerSetup, build_attempt: BuildAttempt) -> None:
    """The child's life: set up once, then attempt after attempt until the pipe ends."""
    # Ctrl-C reaches the whole terminal group; the miner decides when its trainer ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = str(setup.threads)
    receive, send, is_cancelled = _guard(pipe.recv), _guard(pipe.send), _guard(pipe.poll)
    try:
        run_attempt = build_attempt(setup)
        send(_Ready())
        while True:
            request = receive()
            # A cancel can cross the end of the attempt that it was for.
            if isinstance(request, TrainRequest):
                send(run_attempt(request, is_cancelled, _build_report(send)))
    except _MinerGone:
        return


def _guard(use_pipe: Callable[Arguments, Answer]) -> Callable[Arguments, Answer]:
    """Tells the end of the pipe from errors of the trainer's own work."""

    def guarded(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Answer:
        try:
            return use_pipe(*args, **kwargs)
        except (EOFError, OSError) as error:
            raise _MinerGone from error

    return guarded


def _build_report(send: Callable[[Progress], None]) -> Report:
    last = 0.0

    def report(progress: Progress) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _REPORT_INTERVAL_SECONDS:
            last = now
            send(progress)

    return report


def build_training_attempt(setup: TrainerSetup) -> RunAttempt:
    """The real thing: torch, the dataset in memory, and `training.attempt`."""
    import torch

    from dataset_server.store import DatasetStore
    from training.attempt import Candidate, MiningAttempt, TrainingData
    from training.lockstep import get_waiting
    from training.pace import Pace
    from training.tasks import load_recipe

    torch.set_num_threads(setup.threads)
    device = choose_device(setup.device)
    dataset = DatasetStore(setup.dataset_root).load(setup.dataset_id)
    recipe = load_recipe(setup.task.network)
    attempt = MiningAttempt(setup.task, TrainingData.load(dataset, device), recipe, device)
    pace = Pace(get_waiting(recipe, torch.device(device)))

    def run(request: TrainRequest, is_cancelled: Callable[[], bool], report: Report) -> TrainResult:
        started = time.perf_counter()
        known = pace.step_seconds
        # The first network tells how fast the machine is.
        attempt.most_samples, count = None, 1
        if known:
            # Who would train one alone for longer than an interval takes a shorter course.
            attempt.most_samples = int(request.interval / known) * recipe.batch
            lasting = attempt.get_plan(request.rung).samples / recipe.batch * known / request.interval
            count = attempt.count_networks(request.rung, lasting)
        search = attempt.search(request.header, request.rung, request.seed, is_cancelled)

        def find_next() -> Candidate | None:
            is_late = time.perf_counter() - started > _RENEWED_SHARE * request.interval
            return None if is_late or not known else search.take_one()

        result = attempt.run(search.take(count), request.rung, is_cancelled, report, find_next)
        seconds = time.perf_counter() - started
        spent = search.spent + result.multiply_accumulates
        pace.note(result.widths, seconds, request.interval)
        return TrainResult(
            result.outcome,
            result.witness,
            result.networks,
            result.samples,
            spent,
            result.train_correct,
            result.eval_correct,
            seconds,
            result.header.nonce,
        )

    return run


def choose_device(name: str) -> str:
    """The device of that name; for auto the GPU where there is one. Runs where torch may be imported."""
    import torch

    return name if name != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
