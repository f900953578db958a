"""Price attacks on the work: `python -m training.lab attacks --task NAME --data FILE`.

Measures what the recordings lack, seed by seed over all attacks, so that a run may be ended at any time and
gone on with; then writes the table and the picture from all recordings.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from training.data import TrainingData
from training.dataset_file import read_dataset_file
from training.evaluator import choose_compute_logits
from training.lab.attacks.catalogue import BY_NAME, TRAINED
from training.lab.attacks.frame import Attack, Ground
from training.lab.attacks.lengths import REFERENCE
from training.lab.attacks.picture import draw
from training.lab.attacks.rows import Recorder, Recording, append_recordings, read_recordings
from training.lab.attacks.table import Line, build_lines, render_table, write_csv
from training.lab.bench_rows import describe_origin
from training.lab.traces import read_traces
from training.tasks import TASK_NAMES, load_task_file

_QUICK_COURSES = 8

Order = tuple[Attack, Ground, int]
"""A course to record: attack, ground, seed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words of this command."""
    parser.add_argument("--task", choices=TASK_NAMES, required=True)
    parser.add_argument("--data", type=Path, required=True, help="the dataset in one file")
    parser.add_argument("--quick", action="store_true", help="few courses, at the lowest share alone")
    parser.add_argument("--courses", type=int, default=60, help="of each attack at each share")
    parser.add_argument("--calibration", type=Path, help="courses of the reference that are measured already")
    parser.add_argument(
        "--ground",
        type=_parse_ground,
        nargs="*",
        default=[],
        metavar="FROZEN[:SAMPLES]",
        help="shares per 10,000, the ladder's unless samples are given; all of the ladder's by default",
    )
    parser.add_argument("--only", nargs="*", default=[], choices=list(BY_NAME), help="attacks to measure")
    parser.add_argument("--out", type=Path, default=Path("attacks"), help="folder of rows, table and picture")


def run(options: argparse.Namespace) -> int:
    """Measures, writes and returns the exit code."""
    grounds = build_grounds(options)
    path = options.out / ("quick.jsonl" if options.quick else "rows.jsonl")
    record_missing(path, list(_order(options, grounds)), grounds[0].data)
    recordings = read_recordings(path)
    known = read_traces(options.calibration or Path(f"docs/lab/{options.task}-rows.jsonl"))
    lines = [line for ground in grounds for line in build_lines(ground, recordings, known)]
    write(options.out, grounds, lines)
    return 0


def build_grounds(options: argparse.Namespace) -> list[Ground]:
    """One for each share of the task's ladder that is asked for, with the plan of its rungs."""
    file = load_task_file(options.task)
    data = TrainingData.load(read_dataset_file(options.data), options.device)
    samples = {rung.frozen: file.recipe.get_plan(rung).samples for rung in file.rungs}
    wanted = options.ground or [(frozen, None) for frozen in sorted(samples)[: 1 if options.quick else None]]
    unknown = {frozen for frozen, given in wanted if given is None} - set(samples)
    if unknown:
        raise ValueError(f"the ladder has no rungs at {sorted(unknown)} per 10,000 frozen")
    return [
        Ground(file.network, data, file.recipe, frozen, given or samples[frozen]) for frozen, given in wanted
    ]


def record_missing(path: Path, orders: Sequence[Order], data: TrainingData) -> None:
    """Adds to the file what it lacks. Raises ValueError where no back-end is exact."""
    compute_logits = choose_compute_logits(data.inputs.device)
    if compute_logits is None:
        raise ValueError(f"no exact back-end on {data.inputs.device}")
    origin = describe_origin(str(data.inputs.device), 1, "lab attacks")
    recorder = Recorder(data, compute_logits, origin.machine, origin.torch, origin.date)
    known = {(r.attack, r.frozen, r.reference_samples, r.seed) for r in read_recordings(path)}
    missing = [
        (attack, ground, seed)
        for attack, ground, seed in orders
        if (attack.name, ground.frozen, ground.samples, seed) not in known
    ]
    for recording in append_recordings(path, _record_all(recorder, missing)):
        print(
            f"{recording.attack}, {recording.frozen / 100:g} % frozen, seed {recording.seed}:"
            f" train {recording.train_correct[-1]} eval {recording.eval_correct[-1]},"
            f" {recording.seconds[-1]} s",
            flush=True,
        )


def write(out: Path, grounds: Sequence[Ground], lines: Sequence[Line]) -> None:
    """Table, page part and picture."""
    write_csv(out / "attacks.csv", lines)
    for ground in grounds:
        mine = [line for line in lines if line.frozen == ground.frozen]
        table = render_table(mine)
        (out / f"table-{ground.frozen}.md").write_text(table, "utf-8")
        print(f"\n{ground.frozen / 100:g} % frozen, {ground.samples:,} samples\n\n{table}")
    if not draw(out / "attacks.png", lines):
        print("matplotlib is missing: the table was written, the picture was not")


def _order(options: argparse.Namespace, grounds: Sequence[Ground]) -> Iterator[Order]:
    """Seed by seed, so that an ended run has as many courses of each attack."""
    courses = _QUICK_COURSES if options.quick else options.courses
    attacks = [BY_NAME[name] for name in options.only] or [REFERENCE, *TRAINED]
    for seed in range(courses):
        for attack in attacks:
            yield from ((attack, ground, seed) for ground in grounds)


def _parse_ground(text: str) -> tuple[int, int | None]:
    frozen, _, samples = text.partition(":")
    return int(frozen), int(samples) if samples else None


def _record_all(recorder: Recorder, orders: Sequence[Order]) -> Iterator[Recording]:
    for attack, ground, seed in orders:
        attack.prepare(ground)
        yield recorder.record(attack, ground, seed)
