"""Measuring a ladder: whole courses once, then every target on them.

A trace keeps what each checkpoint showed and what it had cost, so one sample of courses tells for every
target and every choice of allowances how often an attempt succeeds and what it costs. training.lab.ladder
makes rungs of it.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path

from consensus.block import encode_header
from consensus.dataset import DatasetSpec
from consensus.network import NetworkSpec
from consensus.watermark import derive_watermark
from training.course import Checkpoint, Course
from training.data import Records, TrainingData
from training.evaluator import ComputeLogits, count_right
from training.lab.bench_rows import Origin
from training.lab.lines import append_lines, read_lines
from training.lockstep import Lockstep
from training.probe import compute_cost
from training.rate import pick_practice_header
from training.recipe import Plan, Recipe

NOT_COUNTED = -1
SEEDS_APART = 10**6
"""Seeds that differ by multiples of it are of other courses under the same header."""

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
    """Of the course; of the practice header (training.rate) what is left of it by SEEDS_APART."""
    recipe: str
    """digest_recipe of what it followed."""
    dataset: str
    """The first 8 hex digits of the id of what it was trained on."""
    shown: tuple[int, ...]
    """What the checkpoint showed to the miner: an estimate while training, then a count."""
    train_correct: tuple[int, ...]
    """Right train records, exactly; NOT_COUNTED where a recount is taken to miss every target."""
    eval_correct: tuple[int, ...]
    """Right eval records, exactly; NOT_COUNTED likewise."""
    multiply_accumulates: tuple[int, ...]
    """Spent so far, without recounts."""
    seconds: float
    """Of the whole course, its exact counts included; of courses trained in one pass, an equal share."""
    machine: str
    """Of which it was measured; floating point differs between processors."""
    torch: str
    date: str


@dataclass(frozen=True, slots=True)
class Goal:
    """What an attempt must reach."""

    train: int
    eval: int


@dataclass(slots=True)
class Notes:
    """What a course showed so far, an entry for each checkpoint."""

    shown: list[int] = field(default_factory=list)
    train: list[int] = field(default_factory=list)
    eval: list[int] = field(default_factory=list)
    spent: list[int] = field(default_factory=list)

    def add(self, course: Course, checkpoint: Checkpoint, counts: tuple[int, int]) -> None:
        """The next checkpoint, with exact (train, eval) counts or NOT_COUNTED."""
        self.shown.append(checkpoint.train_correct)
        self.train.append(counts[0])
        self.eval.append(counts[1])
        self.spent.append(course.multiply_accumulates)


@dataclass(frozen=True, slots=True)
class Tracer:
    """What all courses of a calibration share."""

    network: NetworkSpec
    data: TrainingData
    recipe: Recipe
    compute_logits: ComputeLogits
    """A back-end that proved itself on the data's device."""
    origin: Origin
    dataset: str
    """As a trace names it."""
    counts_estimates: bool = True
    """Whether checkpoints that show an estimate are counted too: a pass over all records for each."""

    def trace(self, orders: Sequence[CourseOrder]) -> list[Trace]:
        """Whole courses of one plan and share, trained in one pass, with exact counts at checkpoints.

        Each is under the watermark of the practice header of its seed.
        """
        started = time.perf_counter()
        notes = {self._build(order): Notes() for order in orders}
        for course, checkpoint in Lockstep(list(notes)).follow():
            train_correct = self._count_train(course, checkpoint)
            is_counted = train_correct != NOT_COUNTED
            eval_correct = self._count(course, self.data.eval) if is_counted else NOT_COUNTED
            notes[course].add(course, checkpoint, (train_correct, eval_correct))
        seconds = round((time.perf_counter() - started) / len(orders), 3)
        pairs = zip(orders, notes.values(), strict=True)
        return [self._close(order, note, seconds) for order, note in pairs]

    def _build(self, order: CourseOrder) -> Course:
        plan, frozen, seed = order
        network = self.network
        frozen_count = network.weight_count * frozen // 10_000
        header = pick_practice_header(seed % SEEDS_APART, self.recipe, network, frozen_count)
        watermark = derive_watermark(encode_header(header), network.weight_count, frozen_count)
        return Course(network, watermark, self.data, self.recipe, plan, seed)

    def _count_train(self, course: Course, checkpoint: Checkpoint) -> int:
        # Behind the training the head has counted every record; what is shown before is an estimate.
        if checkpoint.index >= course.plan.parts:
            return checkpoint.train_correct
        is_counted = self.counts_estimates and not checkpoint.is_promise
        return self._count(course, self.data.train) if is_counted else NOT_COUNTED

    def _count(self, course: Course, records: Records) -> int:
        return count_right(self.compute_logits(course.build_network(), records.pixels), records.labels)

    def _close(self, order: CourseOrder, notes: Notes, seconds: float) -> Trace:
        plan, frozen, seed = order
        digest, origin = digest_recipe(self.recipe), self.origin
        shown, train, right, spent = (tuple(c) for c in (notes.shown, notes.train, notes.eval, notes.spent))
        where = origin.describe_machine(), origin.torch, origin.date
        kind = frozen, plan.samples, seed, digest, self.dataset
        return Trace(*kind, shown, train, right, spent, seconds, *where)


def group_orders(orders: Iterable[CourseOrder], size: int) -> Iterator[tuple[CourseOrder, ...]]:
    """Up to `size` orders of one plan and share together, in their order."""
    for _, group in groupby(orders, key=lambda order: order[:2]):
        mine = tuple(group)
        yield from (mine[start : start + size] for start in range(0, len(mine), size))


def read_traces(path: Path) -> list[Trace]:
    """The traces of a file of rows (training.lab.lines)."""
    return read_lines(path, Trace)


def digest_recipe(recipe: Recipe) -> str:
    """Of what shapes a whole course: not its plans, which cut it short, nor what is trained beside it."""
    values = asdict(recipe)
    del values["plans"], values["networks"], values["waiting"]
    return digest_values(values)


def digest_values(values: object) -> str:
    """8 hex digits of the SHA-256 of the JSON of numbers, by name; 1 and 1.0 differ."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]


def name_dataset(spec: DatasetSpec) -> str:
    """As a trace names it."""
    return spec.dataset_id.hex()[:8]


def check_traces(traces: Iterable[Trace], network: NetworkSpec, dataset: DatasetSpec, recipe: Recipe) -> None:
    """Raises ValueError for courses of another network (by what a look cost), dataset or recipe."""
    look, digest, name = compute_cost(network, dataset.n_train), digest_recipe(recipe), name_dataset(dataset)
    for trace in traces:
        if trace.dataset != name:
            raise ValueError(
                f"the course of seed {trace.seed} is of another dataset: {trace.dataset}, not {name}"
            )
        if trace.multiply_accumulates[0] != look:
            raise ValueError(f"the course of seed {trace.seed} is of another network")
        if trace.recipe != digest:
            raise ValueError(
                f"the course of seed {trace.seed} is of another recipe: {trace.recipe}, not {digest}"
            )


def extend_traces(
    path: Path, trace_all: Callable[[Sequence[CourseOrder]], Iterable[Trace]], courses: Sequence[CourseOrder]
) -> Iterator[Trace]:
    """Adds to the file what it lacks of `courses`, as `trace_all` gives it, and yields each as it is done."""
    known = {(trace.samples, trace.frozen, trace.seed) for trace in read_traces(path)}
    lacking = [order for order in courses if (order[0].samples, *order[1:]) not in known]
    return append_lines(path, trace_all(lacking), Trace)
