"""The paper's figures and ablations, measured: `python -m training.lab figures --task NAME --data FILE`.

Owns the command. The module runs lists what is run, workers performs it, tables and pictures tell what came
of it, from the rows alone.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

from consensus.dataset import DatasetSpec
from consensus.network import NetworkSpec
from training.dataset_file import read_dataset_file
from training.lab.bench_rows import describe_origin
from training.lab.bench_steps import PAPER
from training.lab.figures.pictures import draw_all
from training.lab.figures.runs import (
    MODES,
    SCALES,
    Row,
    Run,
    Scale,
    append_rows,
    list_runs,
    read_rows,
)
from training.lab.figures.tables import bundle_rows, write_summaries
from training.lab.figures.workers import Result, Settings, get_teacher_path, perform
from training.lab.inputs import PROCESSES, check_samples, parse_count
from training.lab.traces import name_dataset
from training.recipe import Recipe
from training.tasks.default import DEFAULT_RECIPE

_SMALL = NetworkSpec(c=1, h=8, w=8, classes=10, blocks=2, filters=8, hidden=64)
"""For digits. The network that is mined is smaller, so that a watermark's luck decides."""
_PAPER_RECIPE = replace(
    DEFAULT_RECIPE,
    batch=128,
    weight_rate=0.08,
    normalisation_rate=0.02,
    betas=(0.9, 0.99),
    logit_scale=1.0,
)
"""The search is told of in docs/lab/training.md."""
_LEAST_TRANSFER_SHARE = 40
_parse_per_cent = partial(parse_count, least=0, most=100)


def run(options: argparse.Namespace) -> int:
    """Measures what the rows lack, then draws; returns the exit code."""
    if not options.draw_only:
        measure(options, read_dataset_file(options.data).spec)
    draw(options)
    return 0


def measure(options: argparse.Namespace, dataset: DatasetSpec) -> None:
    """Adds a row for every run that is not done; may be ended at any time and started again.

    Raises ValueError for the wrong dataset, for rows of another one, and where an epoch of protocol mode has
    no whole batch.
    """
    scale = choose_scale(options)
    settings = Settings(
        options.data, choose_network(options.task, dataset), choose_recipe(options.task), scale,
        options.device, options.threads, options.out / "networks",
    )  # fmt: skip
    if "protocol" in options.modes:
        check_samples(min(scale.images, dataset.n_train), settings.recipe.batch)
    settings.teachers.mkdir(parents=True, exist_ok=True)
    path = get_rows_path(options)
    name = name_dataset(dataset)
    wanted = list_runs(scale, min(scale.images, dataset.n_train), options.modes, name)
    done = {row.run for row in read_rows(path)}
    if others := sorted({run.dataset for run in done} - {name}):
        raise ValueError(f"{path} has rows of another dataset: {', '.join(others)}, not {name}")
    lacking = list_lacking(wanted, done, settings.teachers)
    print(f"{len(wanted)} runs, {len(lacking)} to do", flush=True)
    origin = describe_origin(options.device, options.threads, _describe_command(options))
    for result in perform(settings, lacking, options.processes, options.together) if lacking else ():
        points = scale.applied_shares if result.run.kind == "applied" else range(1, result.run.epochs + 1)
        eval_images = min(scale.eval_images, dataset.n_eval)
        row = Row(result.run, tuple(points), result.accuracies, result.seconds, eval_images, origin)
        append_rows(path, [row] if result.run not in done else [])
        print(_describe_result(result), flush=True)


def list_lacking(wanted: list[Run], done: set[Run], teachers: Path) -> list[Run]:
    """Runs without a row, before them those whose network they start from and that is not kept."""
    lacking = [run for run in wanted if run not in done]
    needed = {run.teacher for run in lacking if run.kind != "honest"}
    lost = {run for run in needed if not get_teacher_path(teachers, run).exists()}
    return [*sorted(lost - set(lacking), key=lambda run: run.name), *lacking]


def draw(options: argparse.Namespace) -> None:
    """Tables and, where matplotlib is installed, pictures of all rows."""
    bundles = bundle_rows(read_rows(get_rows_path(options)))
    paper = options.paper if options.task == "cifar10" and options.paper.is_dir() else None
    if options.task == "cifar10" and paper is None:
        print(f"no curves of the paper in {options.paper}", file=sys.stderr)
    write_summaries(options.out, options.task, bundles, paper)
    try:
        paths = draw_all(options.out, options.task, bundles, paper)
    except ImportError:
        print("matplotlib is not installed: rows and tables are written, no pictures", file=sys.stderr)
        return
    for path in paths:
        print(path)


def get_rows_path(options: argparse.Namespace) -> Path:
    """The file of rows."""
    path: Path = options.out / f"{options.task}-rows.csv"
    return path


def choose_scale(options: argparse.Namespace) -> Scale:
    """How much is run: the task's size, with what the command line says otherwise."""
    scale = SCALES.get((options.task, options.quick), SCALES["cifar10", options.quick])
    if options.epochs:
        scale = replace(scale, epochs=dict.fromkeys(MODES, options.epochs))
    if options.shares:
        scale = _restrict(scale, options.shares)
    return replace(scale, seeds=options.seeds or scale.seeds, images=options.images or scale.images)


def _restrict(scale: Scale, shares: list[int]) -> Scale:
    """Only these shares, and 0, which others start from."""
    return replace(
        scale,
        shares=tuple(dict.fromkeys((0, *shares))),
        transfer_shares=tuple(share for share in shares if share >= _LEAST_TRANSFER_SHARE),
        ablation_shares={
            mode: tuple(share for share in shares if share in known)
            for mode, known in scale.ablation_shares.items()
        },
    )


def choose_network(task: str, dataset: DatasetSpec) -> NetworkSpec:
    """A small one for digits, the paper's for everything else. Raises ValueError for the wrong dataset."""
    shape = dataset.c, dataset.h, dataset.w
    if (task == "digits") != (shape == (_SMALL.c, _SMALL.h, _SMALL.w)):
        raise ValueError(f"the task {task} needs a dataset of its own: --data FILE")
    if task == "digits":
        return _SMALL
    return replace(PAPER, c=dataset.c, h=dataset.h, w=dataset.w, classes=dataset.classes)


def choose_recipe(task: str) -> Recipe:
    """Of protocol mode: the default for digits, for everything else what the search found for CIFAR-10."""
    return DEFAULT_RECIPE if task == "digits" else _PAPER_RECIPE


def _describe_command(options: argparse.Namespace) -> str:
    words = [f"--task {options.task}", *(["--quick"] if options.quick else [])]
    for name in ("seeds", "images", "epochs"):
        if getattr(options, name):
            words.append(f"--{name} {getattr(options, name)}")
    if options.shares:
        words.append(f"--shares {' '.join(map(str, options.shares))}")
    return f"freezenet lab figures {' '.join(words)}"


def _describe_result(result: Result) -> str:
    run = result.run
    return (
        f"{run.mode} {run.kind} {run.variant} {run.share} % seed {run.seed}:"
        f" {result.accuracies[-1]:.3f}, {result.seconds:.1f} s"
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words of this command."""
    parser.add_argument("--task", required=True, help="digits, cifar10 or another name for --data")
    parser.add_argument("--quick", action="store_true", help="reduced runs, for a CPU")
    parser.add_argument("--out", type=Path, default=Path("lab-figures"), help="folder of rows and pictures")
    parser.add_argument("--paper", type=Path, default=Path("docs/lab/paper"), help="the paper's curves")
    parser.add_argument("--draw-only", action="store_true", help="run nothing, draw the rows there are")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--seeds", type=parse_count, help="instead of the scale's")
    parser.add_argument("--images", type=parse_count, help="train records, instead of the scale's")
    parser.add_argument("--epochs", type=parse_count, help="of both modes, instead of the scale's")
    parser.add_argument("--shares", type=_parse_per_cent, nargs="+", help="per cent, instead of the scale's")
    parser.add_argument("--processes", type=parse_count, default=PROCESSES, help="side by side")
    parser.add_argument("--together", type=parse_count, default=3, help="networks of the paper in one pass")
