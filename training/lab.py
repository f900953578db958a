"""The lab's commands: `python -m training.lab calibrate --task NAME --data FILE`.

Needs consensus, torch and numpy alone; FILE is a dataset in one file (`freezenet dataset import` writes it).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from consensus.dataset import Dataset
from consensus.errors import ConsensusError
from consensus.network import NetworkSpec
from training.calibration import Trace, Tracer, extend_traces, read_traces
from training.check import check_ladder
from training.data import TrainingData
from training.dataset_file import read_dataset_file
from training.evaluator import choose_compute_logits
from training.ladder import MeasuredRung, Sizes, Stretch, build_ladder
from training.recipe import Plan, Recipe
from training.tasks import TASK_NAMES, load_task, load_task_file

_PILOT_COURSES = 100
_CHECK_ATTEMPTS = 100


@dataclass(frozen=True, slots=True)
class Order:
    """Courses to measure for one stretch of a ladder."""

    frozen: int
    """Per 10,000."""
    samples: int
    """Of a full attempt."""
    courses: int
    """Measured, beside those of the pilot."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code: 0 done, 1 failed, 2 usage."""
    options = _parse(arguments)
    torch.set_num_threads(options.threads)
    try:
        dataset = read_dataset_file(options.data)
        return check(options, dataset) if options.check else calibrate(options, dataset)
    except (OSError, ConsensusError, ValueError) as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1


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
        f"here:   {result.successes} of {result.attempts}, 99 % interval {low:.3f} to {high:.3f},"
        f" {result.multiply_accumulates:,} M an attempt, {result.seconds:.2f} s each\n"
        f"the ladder {'holds' if result.holds else 'DOES NOT HOLD'} here"
    )
    return 0 if result.holds else 1


def calibrate(options: argparse.Namespace, dataset: Dataset) -> int:
    """Measures what the rows lack, and writes the task file."""
    file = load_task_file(options.task)
    courses = [
        (_build_plan(order, file.recipe), order.frozen, seed)
        for order in options.stretch
        for seed in range(_PILOT_COURSES + order.courses)
    ]
    measure(options, dataset, file.network, file.recipe, courses)
    stretches = [_collect(order, file.recipe, read_traces(options.rows)) for order in options.stretch]
    recounts = (dataset.spec.n_train + dataset.spec.n_eval) * file.network.multiply_accumulates
    plans, ladder = build_ladder(stretches, Sizes(dataset.spec.n_train, recounts))
    recipe = replace(file.recipe, plans=plans)
    text = json.dumps(_encode_task(file.network, recipe, ladder, _describe(options)), indent=1)
    options.out.write_text(text + "\n", "utf-8")
    print(f"{len(ladder)} rungs, work {ladder[0].rung.work:,} to {ladder[-1].rung.work:,}: {options.out}")
    return 0


def measure(
    options: argparse.Namespace,
    dataset: Dataset,
    network: NetworkSpec,
    recipe: Recipe,
    courses: Sequence[tuple[Plan, int, int]],
) -> None:
    """Adds missing courses to the rows, a line each; may be ended at any time and started again."""
    compute_logits = choose_compute_logits(options.device)
    if compute_logits is None:
        raise ValueError(f"no exact back-end on {options.device}")
    tracer = Tracer(network, TrainingData.load(dataset, options.device), recipe, compute_logits)
    for trace in extend_traces(options.rows, tracer, courses):
        print(
            f"frozen {trace.frozen} samples {trace.samples} seed {trace.seed}:"
            f" train {trace.train_correct[-1]} eval {trace.eval_correct[-1]},"
            f" {trace.multiply_accumulates[-1] // 10**6} M, {trace.seconds} s",
            flush=True,
        )


def _collect(order: Order, recipe: Recipe, traces: Sequence[Trace]) -> Stretch:
    mine = [trace for trace in traces if (trace.frozen, trace.samples) == (order.frozen, order.samples)]
    pilot = tuple(trace for trace in mine if trace.seed < _PILOT_COURSES)
    rest = tuple(trace for trace in mine if trace.seed >= _PILOT_COURSES)
    return Stretch(order.frozen, _build_plan(order, recipe), pilot, rest)


def _build_plan(order: Order, recipe: Recipe) -> Plan:
    """A plan that never gives up: courses are measured from end to end."""
    parts = recipe.plans[0].parts
    return Plan(0, order.samples, parts, (1.0,) * (parts + 1 + recipe.polish.sweeps))


def _encode_task(
    network: NetworkSpec, recipe: Recipe, ladder: Sequence[MeasuredRung], measured: dict[str, Any]
) -> dict[str, Any]:
    return {
        "network": asdict(network),
        "recipe": asdict(recipe),
        "measured": measured,
        "ladder": [asdict(step) for step in ladder],
    }


def _describe(options: argparse.Namespace) -> dict[str, Any]:
    """Where and how the ladder was measured: floating point differs between processors."""
    stretches = [f"{order.frozen}:{order.samples}:{order.courses}" for order in options.stretch]
    return {
        "provisional": False,
        "command": f"freezenet lab calibrate --task {options.task} --stretch {' '.join(stretches)}",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": _describe_processor(),
        "device": str(options.device),
        "threads": options.threads,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "pilot_courses": _PILOT_COURSES,
    }


def _describe_processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores, {platform.machine()}"


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="lab", description="Calibrate tasks and measure training.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("calibrate", help="measure a task's ladder, or check it")
    command.add_argument("--task", choices=TASK_NAMES, required=True)
    command.add_argument("--data", type=Path, required=True, help="the dataset in one file")
    command.add_argument("--check", action="store_true", help="measure one rung anew, write nothing")
    command.add_argument("--attempts", type=int, default=_CHECK_ATTEMPTS, help="of --check")
    command.add_argument(
        "--stretch",
        type=_parse_order,
        nargs="+",
        default=[],
        metavar="FROZEN:SAMPLES:COURSES",
        help="what to measure, from the ladder's foot up",
    )
    command.add_argument("--rows", type=Path, default=Path("rows.jsonl"), help="courses measured so far")
    command.add_argument("--out", type=Path, default=Path("task.json"), help="the task file to write")
    command.add_argument("--device", default="cpu")
    command.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    if not options.check and not options.stretch:
        parser.error("--stretch says what to measure")
    return options


def _parse_order(text: str) -> Order:
    frozen, samples, courses = (int(part) for part in text.split(":"))
    return Order(frozen, samples, courses)


if __name__ == "__main__":
    sys.exit(main())
