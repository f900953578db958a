"""Trainers without torch: a scripted one for the loop, and functions that a real trainer process runs."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from consensus.block import Witness
from node.miner.trainer import (
    Report,
    RunAttempt,
    TrainerLost,
    TrainerSetup,
    TrainRequest,
    TrainResult,
)
from training.outcome import Outcome, Progress

WITNESS = Witness(4, 3, b"solution")


LOOKED = 5
"""Headers that every attempt passes over."""


def build_result(outcome: Outcome, request: TrainRequest) -> TrainResult:
    """A result of that outcome, with a witness where it has one, under a header a few nonces on."""
    witness = WITNESS if outcome == "found" else None
    return TrainResult(outcome, witness, 3, 100, 1_000, 4, 3, 0.5, (request.header.nonce + LOOKED) % 2**64)


@dataclass
class ScriptedTrainer:
    """Gives one outcome after the other: `hang` waits for a cancel, `lose` dies; the last one repeats."""

    script: list[str] = field(default_factory=lambda: ["missed"])
    requests: list[TrainRequest] = field(default_factory=list)
    is_stopped: bool = False

    def __post_init__(self) -> None:
        self.hanging = asyncio.Event()
        self._cancelled = asyncio.Event()

    async def start(self) -> None:
        self._cancelled.clear()

    async def train(self, request: TrainRequest, report: Report) -> TrainResult:
        self.requests.append(request)
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        report(Progress(50, 100, 2, 1, 0.25))
        if step == "lose":
            raise TrainerLost("the trainer ended with code -9")
        if step == "hang":
            self.hanging.set()
            await self._cancelled.wait()
            self.hanging.clear()
            return build_result("cancelled", request)
        outcomes: dict[str, Outcome] = {"missed": "missed", "found": "found", "gave-up": "gave-up"}
        return build_result(outcomes[step], request)

    def cancel(self) -> None:
        self._cancelled.set()

    async def stop(self) -> None:
        self.is_stopped = True


def build_instant(_setup: TrainerSetup) -> RunAttempt:
    """Finds at once."""

    def run(request: TrainRequest, is_cancelled: Callable[[], bool], report: Report) -> TrainResult:
        assert not is_cancelled()
        report(Progress(100, 100, 4, 3, 0.1))
        return build_result("found", request)

    return run


def build_talkative(_setup: TrainerSetup) -> RunAttempt:
    """Reports after each of many short steps, as where a network is polished at its end, and finds."""

    def run(request: TrainRequest, is_cancelled: Callable[[], bool], report: Report) -> TrainResult:
        for _ in range(1_000):
            report(Progress(100, 100, 4, 3, 0.1))
        return build_result("found", request)

    return run


def build_patient(_setup: TrainerSetup) -> RunAttempt:
    """Works until it is cancelled."""

    def run(request: TrainRequest, is_cancelled: Callable[[], bool], report: Report) -> TrainResult:
        report(Progress(1, 100, 0, 0, 0.0))
        while not is_cancelled():
            time.sleep(0.01)
        return build_result("cancelled", request)

    return run


def build_deaf(_setup: TrainerSetup) -> RunAttempt:
    """Never yields on the first seed 0, finds otherwise."""

    def run(request: TrainRequest, is_cancelled: Callable[[], bool], report: Report) -> TrainResult:
        report(Progress(1, 100, 0, 0, 0.0))
        while request.seed == 0:
            time.sleep(0.01)
        return build_result("found", request)

    return run


def build_mortal(_setup: TrainerSetup) -> RunAttempt:
    """Is killed in the attempt with seed 0, finds otherwise."""

    def run(request: TrainRequest, is_cancelled: Callable[[], bool], report: Report) -> TrainResult:
        if request.seed == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return build_result("found", request)

    return run


def build_broken(_setup: TrainerSetup) -> RunAttempt:
    """Fails in every attempt, as where a disk does."""

    def run(request: TrainRequest, is_cancelled: Callable[[], bool], report: Report) -> TrainResult:
        raise OSError("the disk is broken")

    return run


def build_without_data(_setup: TrainerSetup) -> RunAttempt:
    """Finds its data cut short."""
    raise EOFError("the dataset is cut short")


def build_never(_setup: TrainerSetup) -> RunAttempt:
    """Cannot be set up."""
    raise SystemExit(7)
