"""The mining loop: fresh work, one attempt on it, a long-poll beside it, and what to do with the outcome.

Owns the order of these and the patience with nodes and trainers that fail. How they are reached is theirs.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from consensus.address import encode_address
from consensus.block import Block, Header, encode_block
from node.miner.client import BadTemplate, NodeLost, NodePool, NotJudged, Refused
from node.miner.journal import EventName, Journal
from node.miner.trainer import Trainer, TrainerLost, TrainRequest, TrainResult
from node.miner.work import Work
from training.outcome import Outcome, Progress

RETRY_SECONDS = 2.0
"""Pause before nodes that all failed are asked again."""
SUBMIT_PATIENCE_SECONDS = 60.0
"""How long a found block is offered to nodes that do not judge it; by then another chain is longer."""
TRAINER_LOSSES_ALLOWED = 5
"""Trainers lost in a row, without one finished attempt between them, before the miner gives up."""

_FRUITLESS: dict[Outcome, EventName] = {"missed": "missed", "gave-up": "gave-up", "cancelled": "stale"}


class MiningFailed(Exception):
    """The miner cannot go on; its text says why."""


@dataclass(frozen=True, slots=True)
class MiningOrder:
    """What the operator asked for."""

    miner: bytes
    """Key[32] to credit."""
    attempts: int | None = None
    """Finished attempts to make; None for no end."""
    is_dry_run: bool = False
    """Whether found blocks are only judged, not stored."""


class Miner:
    """Mines until its order is fulfilled or it is cancelled."""

    def __init__(
        self,
        order: MiningOrder,
        nodes: NodePool,
        trainer: Trainer,
        journal: Journal,
        source: random.Random,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._order = order
        self._address = encode_address(order.miner)
        self._nodes = nodes
        self._trainer = trainer
        self._journal = journal
        self._random = source
        self._clock = clock
        self._sleep = sleep
        self._is_node_lost = False

    async def run(self) -> None:
        """Mines. Raises MiningFailed."""
        finished = begun = losses = 0
        try:
            while self._order.attempts is None or finished < self._order.attempts:
                begun += 1
                if await self._make_attempt(begun):
                    finished, losses = finished + 1, 0
                elif (losses := losses + 1) >= TRAINER_LOSSES_ALLOWED:
                    raise MiningFailed(f"the trainer was lost {losses} times in a row")
        finally:
            await self._trainer.stop()
            self._journal.record("stopped")

    async def _make_attempt(self, number: int) -> bool:
        """One attempt, from the template to the verdict; False where the trainer was lost."""
        try:
            await self._trainer.start()
            work = await self._fetch_work()
            header = replace(work.header, nonce=self._random.getrandbits(64))
            facts = describe_attempt(number, work)
            self._journal.record("attempt", node=self._nodes.current_url, **facts)
            result = await self._train(header, work, facts)
        except TrainerLost as error:
            self._journal.record("trainer-lost", reason=str(error))
            return False
        await self._close_attempt(replace(header, nonce=result.nonce), work, facts, result)
        return True

    async def _fetch_work(self) -> Work:
        """Work, however long it takes until a node has some."""
        while True:
            try:
                work = await self._nodes.fetch_work(self._address, self._order.miner)
            except BadTemplate as error:
                self._journal.record("bad-template", node=error.url, reason=error.reason)
                await self._sleep(RETRY_SECONDS)
            except NodeLost as error:
                self._note_lost(error)
                await self._sleep(error.retry_after_seconds or RETRY_SECONDS)
            else:
                self._note_found()
                return work

    async def _train(self, header: Header, work: Work, facts: dict[str, Any]) -> TrainResult:
        def report(progress: Progress) -> None:
            self._journal.record("progress", **facts, **_describe_progress(progress))

        watch = asyncio.create_task(self._cancel_when_stale(work))
        try:
            assert self._nodes.spec is not None, "the work came from a node whose chain was checked"
            interval = self._nodes.spec.params.target_interval
            request = TrainRequest(header, work.rung, self._random.getrandbits(63), interval)
            return await self._trainer.train(request, report)
        finally:
            watch.cancel()
            with suppress(asyncio.CancelledError):
                await watch

    async def _cancel_when_stale(self, work: Work) -> None:
        """Long-polls until the tip moves. New transactions alone leave the attempt as good as it was."""
        newest = work
        while True:
            try:
                newest = await self._nodes.wait_for_change(self._address, self._order.miner, newest)
            except NodeLost:
                # The work may still win through another node; the next attempt tells who is lost.
                await self._sleep(RETRY_SECONDS)
                continue
            if newest.is_previous_stale or newest.header.parent != work.header.parent:
                self._trainer.cancel()
                return

    async def _close_attempt(
        self, header: Header, work: Work, facts: dict[str, Any], result: TrainResult
    ) -> None:
        counts = _describe_result(result)
        if result.witness is None:
            self._journal.record(_FRUITLESS[result.outcome], **facts, **counts)
            return
        self._journal.record("found", **facts, **counts, id=header.block_id.hex())
        await self._submit(encode_block(Block(header, work.transfers, result.witness)), header, facts)

    async def _submit(self, raw: bytes, header: Header, facts: dict[str, Any]) -> None:
        assert self._nodes.spec is not None, "the work came from a node whose chain was checked"
        # As long as the earliest timestamp of a child can be ahead of what nodes accept (protocol §9).
        ahead_seconds = self._nodes.spec.params.target_interval // 4
        deadline = self._clock() + SUBMIT_PATIENCE_SECONDS + ahead_seconds
        about = {**facts, "id": header.block_id.hex(), "dry_run": self._order.is_dry_run}
        while True:
            pause = RETRY_SECONDS
            try:
                status = await self._nodes.submit(raw, self._order.is_dry_run)
            except Refused as error:
                code, reason, is_final = error.code, error.detail, True
            except NotJudged as error:
                code, reason, is_final = error.code, error.detail, False
            except NodeLost as error:
                self._note_lost(error)
                code, reason, is_final = "node-lost", str(error), False
                pause = error.retry_after_seconds or pause
            else:
                self._note_found()
                self._journal.record("accepted", **about, status=status, node=self._nodes.current_url)
                return
            seconds_left = deadline - self._clock()
            if is_final or seconds_left <= 0:
                self._journal.record("rejected", **about, code=code, reason=reason)
                return
            await self._sleep(min(pause, seconds_left))

    def _note_lost(self, error: NodeLost) -> None:
        """Once for each time that the nodes go, not for each try."""
        if not self._is_node_lost:
            self._journal.record("node-lost", node=error.url, reason=error.reason)
        self._is_node_lost = True

    def _note_found(self) -> None:
        if self._is_node_lost:
            self._journal.record("node-found", node=self._nodes.current_url)
        self._is_node_lost = False


def describe_attempt(number: int, work: Work) -> dict[str, Any]:
    """What every event of an attempt says of it."""
    return {
        "attempt": number,
        "parent": work.header.parent.hex(),
        "height": work.header.height,
        "frozen": work.rung.frozen,
        "train_target": work.rung.min_train_correct,
        "eval_target": work.rung.min_eval_correct,
    }


def _describe_progress(progress: Progress) -> dict[str, Any]:
    return {
        "samples": progress.samples,
        "total_samples": progress.total_samples,
        "train_correct": progress.train_correct,
        "eval_correct": progress.eval_correct,
        "seconds": round(progress.seconds, 3),
    }


def _describe_result(result: TrainResult) -> dict[str, Any]:
    return {
        "networks": result.networks,
        "samples": result.samples,
        "multiply_accumulates": result.multiply_accumulates,
        "train_correct": result.train_correct,
        # 0 stands for not counted.
        "eval_correct": result.eval_correct or None,
        "seconds": round(result.seconds, 3),
    }
