"""Measure a task's ladder, or check it: `python -m training.lab calibrate --task NAME --data FILE`.

FILE is a dataset in one file (`freezenet dataset import` writes it).
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from consensus.dataset import Dataset
from consensus.network import NetworkSpec
from consensus.task import MIN_WORK
from training.data import TrainingData
from training.dataset_file import read_dataset_file
from training.evaluator import choose_compute_logits
from training.lab.bench_rows import describe_origin
from training.lab.check import check_ladder
from training.lab.inputs import check_samples, parse_count, parse_share, read_task_dataset
from training.lab.ladder import MeasuredRung, Sizes, Stretch, build_ladder, check_courses
from training.lab.page import render_page
from training.lab.pool import start_pool
from training.lab.traces import (
    CourseOrder,
    Trace,
    Tracer,
    check_traces,
    extend_traces,
    group_orders,
    name_dataset,
    read_traces,
)
from training.recipe import Plan, Recipe
from training.tasks import TASK_NAMES, decode_task_file, load_task, load_task_file

_CHECK_ATTEMPTS = 100


@dataclass(frozen=True, slots=True)
class Order:
    """Courses to measure for one stretch of a ladder."""

    frozen: int
    """Per 10,000."""
    samples: int
    """Of a full attempt."""
    courses: int


def run(options: argparse.Namespace) -> int:
    """Measures or checks a ladder and returns the exit code."""
    dataset = read_task_dataset(options.task, options.data)
    return check(options, dataset) if options.check else calibrate(options, dataset)


def check(options: argparse.Namespace, dataset: Dataset) -> int:
    """Measures one rung anew; 1 if the stored ladder does not hold here."""
    task = load_task(options.task, dataset.spec)
    data = TrainingData.load(dataset, options.device)
    result = check_ladder(load_task_file(options.task), task, data, options.attempts)
    low, high = result.interval
    print(
        f"{result.rung}\n"
        f"stored: {result.stored.successes} of {result.stored.attempts},"
        f" 99 % interval {result.stored.low:.3f} to {result.stored.high:.3f},"
        f" {result.stored.multiply_accumulates:,} M an attempt\n"
        f"here:   {result.successes} of {result.attempts}, 99.9 % interval {low:.3f} to {high:.3f},"
        f" {result.multiply_accumulates:,} M an attempt, {result.seconds:.2f} s each\n"
        f"the ladder {'holds' if result.holds else 'DOES NOT HOLD'} here"
    )
    return 0 if result.holds else 1


def calibrate(options: argparse.Namespace, dataset: Dataset) -> int:
    """Measures what the rows lack, and writes the task file.

    Raises ValueError for another task's courses, and for an order that cannot make a ladder.
    """
    file = load_task_file(options.task)
    check_courses([order.courses for order in options.stretch])
    for order in options.stretch:
        check_samples(order.samples, file.recipe.batch)
    known = read_traces(options.rows)
    check_traces(known, file.network, dataset.spec, file.recipe)
    courses = [
        (build_plan(order, file.recipe), order.frozen, seed)
        for order in options.stretch
        for seed in range(order.courses)
    ]
    measure(options, file.network, file.recipe, courses, not options.skip_estimates)
    stretches = collect(options.stretch, file.recipe, read_traces(options.rows))
    sizes = Sizes.build(dataset.spec.n_train, dataset.spec.n_eval, file.network)
    plans, ladder = build_ladder(stretches, sizes, options.foot)
    recipe = replace(file.recipe, plans=plans)
    measured = _describe(options, dataset, stretches)
    encoded = _encode_task(file.network, recipe, ladder, measured)
    options.out.write_text(json.dumps(encoded, indent=1) + "\n", "utf-8")
    options.page.write_text(render_page(options.task, decode_task_file(encoded), stretches), "utf-8")
    print(f"{len(ladder)} rungs, work {ladder[0].rung.work:,} to {ladder[-1].rung.work:,}: {options.out}")
    return 0


def collect(orders: Sequence[Order], recipe: Recipe, traces: Sequence[Trace]) -> list[Stretch]:
    """The courses of every order, those that it does not ask for left out."""

    def is_of(trace: Trace, order: Order) -> bool:
        kind = trace.frozen, trace.samples
        return kind == (order.frozen, order.samples) and trace.seed < order.courses

    return [
        Stretch(
            order.frozen,
            build_plan(order, recipe),
            tuple(trace for trace in traces if is_of(trace, order)),
        )
        for order in orders
    ]


def measure(
    options: argparse.Namespace,
    network: NetworkSpec,
    recipe: Recipe,
    courses: Sequence[CourseOrder],
    counts_estimates: bool,
) -> None:
    """Adds missing courses to the rows, a line each; may be ended at any time and started again.

    Raises ValueError where no back-end is exact.
    """
    if choose_compute_logits(options.device) is None:
        raise ValueError(f"no exact back-end on {options.device}")
    with start_pool(options.processes, _start_worker, options, network, recipe, counts_estimates) as pool:

        def trace_all(orders: Sequence[CourseOrder]) -> Iterator[Trace]:
            return chain.from_iterable(pool.map(_trace, group_orders(orders, recipe.networks)))

        for trace in extend_traces(options.rows, trace_all, courses):
            print(
                f"frozen {trace.frozen} samples {trace.samples} seed {trace.seed}:"
                f" train {trace.train_correct[-1]} eval {trace.eval_correct[-1]},"
                f" {trace.multiply_accumulates[-1] // 10**6} M, {trace.seconds} s",
                flush=True,
            )


_tracer: Tracer
"""Of a worker process."""


def _start_worker(
    options: argparse.Namespace, network: NetworkSpec, recipe: Recipe, counts_estimates: bool
) -> None:
    global _tracer
    torch.set_num_threads(options.threads)
    compute_logits = choose_compute_logits(options.device)
    assert compute_logits is not None
    dataset = read_dataset_file(options.data)
    data = TrainingData.load(dataset, options.device)
    origin = describe_origin(options.device, options.threads, "lab calibrate")
    name = name_dataset(dataset.spec)
    _tracer = Tracer(network, data, recipe, compute_logits, origin, name, counts_estimates)


def _trace(orders: Sequence[CourseOrder]) -> list[Trace]:
    return _tracer.trace(orders)


def build_plan(order: Order, recipe: Recipe) -> Plan:
    """A plan that never gives up: courses are measured from end to end."""
    parts = recipe.plans[0].parts
    others = parts + len(recipe.polish.tune_steps) + recipe.polish.sweeps
    return Plan(0, order.samples, parts, (0.0, *(1.0,) * others))


def _encode_task(
    network: NetworkSpec, recipe: Recipe, ladder: Sequence[MeasuredRung], measured: dict[str, Any]
) -> dict[str, Any]:
    return {
        "network": asdict(network),
        "recipe": asdict(recipe),
        "measured": measured,
        "ladder": [asdict(step) for step in ladder],
    }


def _describe(options: argparse.Namespace, dataset: Dataset, stretches: Sequence[Stretch]) -> dict[str, Any]:
    """On what, where and how the ladder was measured, as its courses say."""
    traces = [trace for stretch in stretches for trace in stretch.traces]
    dates = sorted({trace.date for trace in traces})
    orders = " ".join(f"{order.frozen}:{order.samples}:{order.courses}" for order in options.stretch)
    words = f"--task {options.task} --stretch {orders} --rows {options.rows}"
    words += f" --foot {options.foot}" if options.foot > MIN_WORK else ""
    words += " --skip-estimates" if options.skip_estimates else ""
    return {
        "command": f"freezenet lab calibrate {words}",
        "dataset": dataset.spec.dataset_id.hex(),
        "recipe": traces[0].recipe,
        "date": dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}",
        "machine": "; ".join(
            f"{machine} ({courses} courses)"
            for machine, courses in Counter(trace.machine for trace in traces).items()
        ),
        "torch": ", ".join(sorted({trace.torch for trace in traces})),
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words of this command."""
    parser.add_argument("--task", choices=TASK_NAMES, required=True)
    modes = parser.add_mutually_exclusive_group(required=True)
    modes.add_argument("--check", action="store_true", help="measure one rung anew, write nothing")
    modes.add_argument(
        "--stretch",
        type=_parse_order,
        nargs="+",
        default=[],
        metavar="FROZEN:SAMPLES:COURSES",
        help="what to measure, from the ladder's foot up",
    )
    parser.add_argument(
        "--foot",
        type=parse_count,
        default=MIN_WORK,
        help="million multiply-accumulates that a block of the first rung costs at least",
    )
    parser.add_argument("--attempts", type=parse_count, default=_CHECK_ATTEMPTS, help="of --check")
    parser.add_argument(
        "--skip-estimates",
        action="store_true",
        help="for many records: a recount before the end of the training is taken to miss",
    )
    parser.add_argument("--processes", type=parse_count, default=1, help="that measure courses side by side")
    parser.add_argument("--rows", type=Path, default=Path("rows.jsonl"), help="courses measured so far")
    parser.add_argument("--out", type=Path, default=Path("task.json"), help="the task file to write")
    parser.add_argument("--page", type=Path, default=Path("task.md"), help="its tables, to be read")


def _parse_order(text: str) -> Order:
    parts = text.split(":")
    if len(parts) != 3:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form FROZEN:SAMPLES:COURSES")
    return Order(parse_share(parts[0]), parse_count(parts[1]), parse_count(parts[2]))
