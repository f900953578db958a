"""The bench's rows about training: what watermark and grid cost a step, how fast steps are, the cold start.

Ratios are of steps taken in turns in one process, so that whatever else the machine does falls on both.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from consensus.dataset import DatasetSpec
from training.attempt import MiningAttempt, TrainingData
from training.dataset_file import read_dataset_file
from training.evaluator import choose_compute_logits
from training.lab.bench_rows import Goal, Row
from training.lab.bench_steps import PAPER, Ground, Plain, Unmarked
from training.lab.figures import choose_recipe
from training.lab.figures.marks import draw_mark
from training.lab.figures.protocol import Protocol
from training.lab.figures.runs import DEFAULT
from training.lockstep import count_networks
from training.rate import build_practice_header
from training.tasks import TASK_NAMES, load_recipe, load_task, load_task_file
from training.twin import Twin

_TURNS = 25
_WARM_UP = 5
"""Steps, of which a GPU records the fourth."""

_COLD_STARTS = 3
_EPOCHS, _SEEDS = 2, 3
_RANKS = 2
_RANK_TURNS = 5
_FIRST_STEP = (
    "import sys; from training.lab.bench_training import take_first_step; take_first_step(*sys.argv[1:])"
)


def measure_training(options: argparse.Namespace) -> Iterator[Row]:
    """The section's rows, each as soon as it is measured."""
    is_cpu = options.device == "cpu"
    digits = Ground(load_task_file("digits").network, 9_500, 64, options.device)
    yield from _measure_steps("digits' network", digits, 10, None)
    for name in TASK_NAMES:
        yield _measure_pass(name, options.device, 5 if name == "digits" else 1)

    paper = Ground(PAPER, 7_000, 32 if is_cpu else 4_096, options.device)
    yield from _measure_steps("paper's network", paper, 1 if is_cpu else 5, None if is_cpu else 500_000)
    yield _measure_cold_start(options)
    yield from _measure_ranks(options.device)
    yield from _measure_accuracy(options)


def take_first_step(data: str, device: str) -> None:
    """What a miner's process does up to the end of its first training step; then it says so."""
    dataset = read_dataset_file(Path(data))
    task = load_task("digits", dataset.spec)
    attempt = MiningAttempt(task, TrainingData.load(dataset, device), load_recipe("digits"), device)
    candidate = attempt.search(build_practice_header(0), task.rungs[0], 0).take_one()
    attempt.run([candidate], task.rungs[0], _report_step, lambda progress: None)


_answers = iter((False,))


def _report_step() -> bool:
    """Asked whether to cancel, once before the first step and after each: after the first."""
    if not next(_answers, True):
        return False
    print("step", flush=True)
    return True


def _measure_steps(name: str, ground: Ground, count: int, images_goal: float | None) -> Iterator[Row]:
    kinds: Sequence[type[Twin]] = (Twin, Unmarked, Plain)
    steps, clock = [ground.build_step(kind) for kind in kinds], _choose_clock(ground.device)
    for step in steps:
        ground.measure_seconds(step, _WARM_UP)
    turns = [[ground.measure_seconds(step, count, clock) for step in steps] for _ in range(_TURNS)]
    marked = tuple(marked / unmarked for marked, unmarked, _ in turns)
    rounded = tuple(unmarked / plain for _, unmarked, plain in turns)
    images = tuple(ground.batch / marked for marked, _, _ in turns)
    yield Row(f"{name}: watermarked step / without", "x", marked, Goal("<=", 1.02))
    yield Row(f"{name}: fake-quantised step / plain fp32", "x", rounded, Goal("<=", 1.15))
    unit = "images/CPU s" if ground.device == "cpu" else "images/s"
    yield Row(f"{name}: training", unit, images, None if images_goal is None else Goal(">=", images_goal))


def _measure_pass(name: str, device: str, count: int) -> Row:
    """Images per second of as many twins in one pass as the task's miner trains, and of one alone."""
    file = load_task_file(name)
    networks = count_networks(file.recipe, torch.device(device))

    ground = Ground(file.network, file.rungs[-1].frozen, file.recipe.batch, device)
    alone, together = ground.build_step(), ground.build_pass(networks)
    for step in (alone, together):
        ground.measure_seconds(step, _WARM_UP)
    clock = _choose_clock(device)
    gains = tuple(
        networks
        * ground.measure_seconds(alone, 2 * count, clock)
        / ground.measure_seconds(together, count, clock)
        for _ in range(_TURNS)
    )
    return Row(f"{name}: one pass / one alone", "x", gains)


def _choose_clock(device: str) -> Callable[[], float]:
    """A CPU's time is told, which what else the machine does lengthens less; a GPU's work has the clock's."""
    return time.process_time if device == "cpu" else time.perf_counter


def _measure_cold_start(options: argparse.Namespace) -> Row:
    words = [sys.executable, "-c", _FIRST_STEP, str(options.data), options.device]
    seconds = tuple(_measure_first_line(words) for _ in range(_COLD_STARTS))
    return Row("cold start of a miner to its first step", "s", seconds, Goal("<=", 10))


def _measure_first_line(words: Sequence[str]) -> float:
    """Seconds from the start of a process to its first line. Raises ValueError if it prints none."""
    started = time.perf_counter()
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None, "it is a pipe"
        line = process.stdout.readline()
        seconds = time.perf_counter() - started
    if not line:
        raise ValueError("the process that measures the cold start failed")
    return seconds


def check_cifar10(dataset: DatasetSpec) -> None:
    """Raises ValueError for a dataset that the paper's network does not fit."""
    shape, wanted = (
        (dataset.c, dataset.h, dataset.w, dataset.classes),
        (PAPER.c, PAPER.h, PAPER.w, PAPER.classes),
    )
    if shape != wanted:
        raise ValueError(f"--cifar10: images of {shape}, not of {wanted}: channels, height, width, classes")


def _measure_accuracy(options: argparse.Namespace) -> Iterator[Row]:
    """What the reference trainer makes of the paper's network on CIFAR-10 in two epochs, and in what time.

    From fresh weights on, with an exact count after each epoch; what a device compiles once for training, the
    rows before have compiled. Rows without values where there is no CIFAR-10.
    """
    results = [] if options.cifar10 is None else list(_train_on_cifar10(options))
    name = f"CIFAR-10 at 70 % frozen, {_EPOCHS} epochs"
    shares, seconds = (tuple(result[index] for result in results) for index in range(2))
    yield Row(f"{name}: test accuracy", "of all", shares, Goal(">=", 0.65))
    yield Row(name, "s", seconds, None if options.device == "cpu" else Goal("<=", 10))


def _train_on_cifar10(options: argparse.Namespace) -> Iterator[tuple[float, float]]:
    """(share of right eval records, seconds) of each seed. Raises ValueError where no back-end is exact."""
    data = TrainingData.load(read_dataset_file(options.cifar10), options.device)
    compute_logits = choose_compute_logits(options.device)
    if compute_logits is None:
        raise ValueError(f"no exact back-end on {options.device}")
    mode = Protocol(PAPER, data, choose_recipe("cifar10"), compute_logits)
    marks = [
        draw_mark("protocol", DEFAULT, seed, PAPER.weight_count, PAPER.weight_count * 7 // 10)
        for seed in range(_SEEDS)
    ]
    # Kernels are compiled at their first use.
    mode.evaluate(mode.build_twin(marks[0], 0, None))
    for seed, mark in enumerate(marks):
        started = time.perf_counter()
        *_, share = mode.train_epochs(mode.build_twin(mark, seed, None), seed, _EPOCHS)
        yield share, time.perf_counter() - started


def _measure_ranks(device: str) -> Iterator[Row]:
    """Images per second of one process on this network, and of two beside it; a GPU each, or a core."""
    names = "paper's network: 1 process", f"paper's network: {_RANKS} processes / 1"
    room = os.cpu_count() or 1 if device == "cpu" else torch.cuda.device_count()
    pairs = _run_ranks(device, 32 if device == "cpu" else 1_024) if room >= _RANKS else []
    yield Row(names[0], "images/s", tuple(alone for alone, _ in pairs))
    yield Row(names[1], "x", tuple(together / alone for alone, together in pairs))


def _run_ranks(device: str, batch: int) -> list[list[float]]:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={_RANKS}"]
    words = [*torchrun, "-m", "training.lab.bench_ranks", device, str(batch), str(_RANK_TURNS)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    pairs: list[list[float]] = json.loads(done.stdout)
    return pairs
