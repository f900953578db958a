"""Measuring a ladder: whole courses once, then every target on them.

A trace keeps what each checkpoint showed and what it had cost, so one sample of courses tells for every
target and every choice of allowances how often an attempt succeeds and what it costs. training.lab.ladder
makes rungs of it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from consensus.block import encode_header
from consensus.network import NetworkSpec
from consensus.watermark import derive_watermark
from training.course import Checkpoint, Course, Judgement, judge
from training.data import Records, TrainingData
from training.evaluator import ComputeLogits, count_right
from training.rate import build_practice_header
from training.recipe import Plan, Recipe

NOT_COUNTED = -1

CourseOrder = tuple[Plan, int, int]
"""A course to measure: its plan, its frozen share per 10,000, its seed."""


@dataclass(frozen=True, slots=True)
class Trace:
    """One course from end to end. The tuples have an entry for each checkpoint."""

    frozen: int
    """Share of the weights frozen, per 10,000."""
    samples: int
    """Of the plan."""
    seed: int
    """Nonce of the practice header, and seed of the course."""
    shown: tuple[int, ...]
    """What the checkpoint showed to the miner: an estimate while training, then a count."""
    train_correct: tuple[int, ...]
    """Right train records, exactly; NOT_COUNTED where a recount is taken to miss every target."""
    eval_correct: tuple[int, ...]
    """Right eval records, exactly; NOT_COUNTED likewise."""
    multiply_accumulates: tuple[int, ...]
    """Spent so far, without recounts."""
    seconds: float
    """Of the whole course, its exact counts included."""


@dataclass(frozen=True, slots=True)
class Goal:
    """What an attempt must reach."""

    train: int
    eval: int


@dataclass(frozen=True, slots=True)
class Tracer:
    """What all courses of a calibration share."""

    network: NetworkSpec
    data: TrainingData
    recipe: Recipe
    compute_logits: ComputeLogits
    """A back-end that proved itself on the data's device."""
    counts_estimates: bool = True
    """Whether checkpoints that show an estimate are counted too: a pass over all records for each."""

    def trace(self, plan: Plan, frozen: int, seed: int) -> Trace:
        """A whole course under the watermark of practice header `seed`, with exact counts at checkpoints."""
        started = time.perf_counter()
        network, data = self.network, self.data
        header = encode_header(build_practice_header(seed))
        watermark = derive_watermark(header, network.weight_count, network.weight_count * frozen // 10_000)
        course = Course(network, watermark, data, self.recipe, plan, seed)
        shown, train, right, spent = [], [], [], []
        for checkpoint in course.follow():
            shown.append(checkpoint.train_correct)
            train.append(self._count_train(course, checkpoint, plan))
            right.append(self._count(course, data.eval) if train[-1] != NOT_COUNTED else NOT_COUNTED)
            spent.append(course.multiply_accumulates)
        seconds = round(time.perf_counter() - started, 3)
        return Trace(
            frozen, plan.samples, seed, tuple(shown), tuple(train), tuple(right), tuple(spent), seconds
        )

    def trace_all(self, courses: Iterable[CourseOrder]) -> Iterator[Trace]:
        """One course after the other."""
        return (self.trace(*order) for order in courses)

    def _count_train(self, course: Course, checkpoint: Checkpoint, plan: Plan) -> int:
        # Behind the training the head has counted every record; what is shown before is an estimate.
        if checkpoint.index >= plan.parts:
            return checkpoint.train_correct
        is_counted = self.counts_estimates and not checkpoint.is_promise
        return self._count(course, self.data.train) if is_counted else NOT_COUNTED

    def _count(self, course: Course, records: Records) -> int:
        return count_right(self.compute_logits(course.build_network(), records.pixels), records.labels)


def replay(trace: Trace, goal: Goal, allowances: Sequence[float], recount_cost: int) -> tuple[bool, int]:
    """(whether an attempt at `goal` succeeds, its multiply-accumulates): training.attempt on a trace.

    `allowances` are in records.
    """
    last, recounts = len(trace.shown) - 1, 0
    for index, shown in enumerate(trace.shown):
        judgement = judge(Checkpoint(index, shown, index == last), goal.train, allowances[index])
        if judgement is Judgement.RECOUNT or index == last:
            recounts += 1
            if trace.train_correct[index] >= goal.train and trace.eval_correct[index] >= goal.eval:
                return True, trace.multiply_accumulates[index] + recounts * recount_cost
        elif judgement is Judgement.GIVE_UP:
            return False, trace.multiply_accumulates[index] + recounts * recount_cost
    return False, trace.multiply_accumulates[last] + recounts * recount_cost


def read_traces(path: Path) -> list[Trace]:
    """The traces of a file of JSON lines, none where there is no file; a line cut by a kill is left out."""
    if not path.exists():
        return []
    lines = path.read_text("utf-8").splitlines(keepends=True)
    return [_decode_trace(line) for line in lines if line.endswith("\n")]


def write_traces(path: Path, traces: Iterable[Trace]) -> None:
    """Replaces the file by these traces, a line each."""
    path.write_text("".join(_encode_trace(trace) for trace in traces), "utf-8")


def extend_traces(
    path: Path, trace_all: Callable[[Sequence[CourseOrder]], Iterable[Trace]], courses: Sequence[CourseOrder]
) -> Iterator[Trace]:
    """Adds to the file what it lacks of `courses`, as `trace_all` gives it, and yields each as it is done."""
    done = read_traces(path)
    write_traces(path, done)
    known = {(trace.samples, trace.frozen, trace.seed) for trace in done}
    lacking = [order for order in courses if (order[0].samples, *order[1:]) not in known]
    with path.open("a", encoding="utf-8") as file:
        for trace in trace_all(lacking):
            file.write(_encode_trace(trace))
            file.flush()
            yield trace


def _encode_trace(trace: Trace) -> str:
    return json.dumps(asdict(trace), separators=(",", ":")) + "\n"


def _decode_trace(line: str) -> Trace:
    values: dict[str, Any] = json.loads(line)
    lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    return Trace(**{**values, **lists})
