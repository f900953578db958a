"""Price attacks on the work: `python -m training.lab attacks --task NAME --data FILE`.

Measures what the recordings lack, seed by seed over all attacks, so that a run may be ended at any time and
gone on with; then writes the table and the picture from all recordings.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path

import torch

from consensus.dataset import Dataset
from consensus.network import check_network
from training.data import TrainingData
from training.evaluator import choose_compute_logits
from training.lab.attacks.catalogue import BY_NAME, TRAINED
from training.lab.attacks.frame import Ground
from training.lab.attacks.lengths import REFERENCE
from training.lab.attacks.picture import draw
from training.lab.attacks.rows import Recorder, Recording, read_recordings
from training.lab.attacks.table import Line, build_lines, render_meanings, render_table, write_csv
from training.lab.bench_rows import describe_origin
from training.lab.inputs import PROCESSES, check_samples, parse_count, parse_share, read_task_dataset
from training.lab.lines import append_lines
from training.lab.pool import start_pool
from training.lab.traces import check_traces, name_dataset, read_traces
from training.tasks import TASK_NAMES, load_task_file

_QUICK_COURSES = 6
_parse_courses = partial(parse_count, least=0)
"""None: only the tables are written."""

Order = tuple[str, int, tuple[int, ...]]
"""Courses to record: the attack's name, the ground's place among all, the seeds."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words of this command."""
    parser.add_argument("--task", choices=TASK_NAMES, required=True)
    parser.add_argument("--quick", action="store_true", help="few courses, by the first plan alone")
    parser.add_argument(
        "--processes", type=parse_count, default=PROCESSES, help="that measure courses side by side"
    )
    parser.add_argument("--courses", type=_parse_courses, default=60, help="of each attack at each share")
    parser.add_argument("--calibration", type=Path, help="courses of the reference that are measured already")
    parser.add_argument(
        "--ground",
        type=_parse_ground,
        nargs="*",
        default=[],
        metavar="FROZEN[:SAMPLES]",
        help="shares per 10,000, with the ladder's plans or these samples; all of the ladder by default",
    )
    parser.add_argument("--filters", type=parse_count, help="of the first block, where not the task's")
    parser.add_argument("--hidden", type=parse_count, help="units of the hidden layer, where not the task's")
    parser.add_argument("--records", type=parse_count, help="the first of the train split, where not all")
    parser.add_argument(
        "--only",
        nargs="*",
        default=[],
        choices=list(BY_NAME),
        metavar="NAME",
        help=f"attacks to measure; the names, to be quoted: {'; '.join(BY_NAME)}",
    )
    parser.add_argument("--out", type=Path, default=Path("attacks"), help="folder of rows, table and picture")


def run(options: argparse.Namespace) -> int:
    """Measures, writes and returns the exit code. Raises ValueError for words that do not fit."""
    if options.device != "cpu":
        raise ValueError("attacks are measured on the CPU, in its own seconds")
    if options.calibration and not options.calibration.exists():
        raise ValueError(f"there is no file {options.calibration}")
    dataset = read_task_dataset(options.task, options.data)
    grounds = build_grounds(options, dataset)
    path = options.out / ("quick.jsonl" if options.quick else "rows.jsonl")
    is_tasks = not (options.filters or options.hidden or options.records)
    rows = options.calibration or Path(f"docs/lab/{options.task}-rows.jsonl")
    known = read_traces(rows) if is_tasks else []
    check_traces(known, grounds[0].network, dataset.spec, grounds[0].recipe)
    record_missing(path, list(_order(options, grounds)), grounds, options)
    recordings = read_recordings(path)
    lines = [line for ground in grounds for line in build_lines(ground, recordings, known)]
    write(options.out, grounds, lines)
    return 0


def build_grounds(options: argparse.Namespace, dataset: Dataset) -> list[Ground]:
    """One for each plan of the task's ladder that is asked for.

    Raises ValueError for a share it lacks and for fewer samples than a batch, RuleViolation for a network
    that no chain may have.
    """
    file = load_task_file(options.task)
    data = TrainingData.load(dataset, options.device).take(options.records)
    network = replace(
        file.network,
        filters=options.filters or file.network.filters,
        hidden=options.hidden or file.network.hidden,
    )
    check_network(network)
    ladder = list(dict.fromkeys((rung.frozen, file.recipe.get_plan(rung).samples) for rung in file.rungs))
    places = ladder[:1] if options.quick and not options.ground else []
    for frozen, samples in options.ground:
        check_samples(samples or file.recipe.batch, file.recipe.batch)
        mine = [(frozen, samples)] if samples else [place for place in ladder if place[0] == frozen]
        if not mine:
            raise ValueError(f"the ladder has no rungs at {frozen} per 10,000 frozen")
        places += mine
    name = name_dataset(dataset.spec)
    return [Ground(network, data, name, file.recipe, *place) for place in places or ladder]


def record_missing(
    path: Path, orders: Sequence[Order], grounds: Sequence[Ground], options: argparse.Namespace
) -> None:
    """Adds to the file what it lacks. Raises ValueError where no back-end is exact."""
    if choose_compute_logits(options.device) is None:
        raise ValueError(f"no exact back-end on {options.device}")
    keys = [ground.key for ground in grounds]
    known = {(r.attack, r.ground, r.seed) for r in read_recordings(path)}
    missing: list[Order] = []
    for name, place, seeds in orders:
        if unknown := tuple(seed for seed in seeds if (name, keys[place], seed) not in known):
            missing.append((name, place, unknown))
    with start_pool(options.processes, _start_worker, options) as pool:
        recordings = chain.from_iterable(pool.map(_record, missing))
        for recording in append_lines(path, recordings, Recording):
            print(
                f"{recording.attack}, {recording.frozen / 100:g} % frozen, seed {recording.seed}:"
                f" train {recording.train_correct[-1]} eval {recording.eval_correct[-1]},"
                f" {recording.seconds[-1]} s",
                flush=True,
            )


_recorder: Recorder
_grounds: list[Ground]
"""Of a worker process."""


def _start_worker(options: argparse.Namespace) -> None:
    global _recorder, _grounds
    torch.set_num_threads(options.threads)
    compute_logits = choose_compute_logits(options.device)
    assert compute_logits is not None
    origin = describe_origin(options.device, options.threads, "lab attacks")
    _grounds = build_grounds(options, read_task_dataset(options.task, options.data))
    _recorder = Recorder(_grounds[0].data, compute_logits, origin.machine, origin.torch, origin.date)


def _record(order: Order) -> list[Recording]:
    name, place, seeds = order
    BY_NAME[name].prepare(_grounds[place])
    return _recorder.record(BY_NAME[name], _grounds[place], seeds)


def write(out: Path, grounds: Sequence[Ground], lines: Sequence[Line]) -> None:
    """Table, page part and picture."""
    write_csv(out / "attacks.csv", lines)
    for ground in grounds:
        mine = [line for line in lines if (line.frozen, line.samples) == (ground.frozen, ground.samples)]
        table = f"{render_table(mine)}\n{render_meanings(mine)}"
        (out / f"table-{ground.frozen}-{ground.samples}.md").write_text(table, "utf-8")
        print(f"\n{ground.frozen / 100:g} % frozen, {ground.samples:,} samples\n\n{table}")
    if not draw(out / "attacks.png", lines):
        print("matplotlib is missing: the table was written, the picture was not")


def _order(options: argparse.Namespace, grounds: Sequence[Ground]) -> Iterator[Order]:
    """A few seeds over all attacks before the next few, so that an ended run has as many courses of each."""
    courses = _QUICK_COURSES if options.quick else options.courses
    names = options.only or [attack.name for attack in (REFERENCE, *TRAINED)]
    together = grounds[0].recipe.networks
    for start in range(0, courses, together):
        seeds = tuple(range(start, min(start + together, courses)))
        for name in names:
            yield from ((name, place, seeds) for place in range(len(grounds)))


def _parse_ground(text: str) -> tuple[int, int | None]:
    frozen, separator, samples = text.partition(":")
    return parse_share(frozen), parse_count(samples) if separator else None
