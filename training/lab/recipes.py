"""Search of recipes: trains variants of the reference trainer and writes a row each.

`python -m training.lab recipes --data FILE --variants NAME…`: rows that the file has are not measured again.
The accuracy is that of the exported integers on the eval split, counted exactly.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import torch

from consensus.block import encode_header
from consensus.dataset import Dataset
from consensus.network import NetworkSpec, check_network
from consensus.watermark import derive_watermark
from training.data import TrainingData
from training.dataset_file import read_dataset_file
from training.evaluator import ComputeLogits, choose_compute_logits, count_right
from training.lab.bench_rows import describe_origin
from training.lab.inputs import check_samples, parse_count, parse_seed, parse_share
from training.lab.traces import name_dataset
from training.lab.variants import Variant, train_variant
from training.rate import build_practice_header
from training.twin import Twin

_WINDOW_STEPS = 50
_BASE = Variant()
_MUON = replace(_BASE, optimiser="muon")
_TUNED = replace(_MUON, initial_scale=0.1, normalisation_rate=0.01, logit_scale=1.0)

VARIANTS = {
    "base": _BASE,
    "weights 0.01": replace(_BASE, weight_rate=0.01),
    "weights 0.04": replace(_BASE, weight_rate=0.04),
    "weights 0.08": replace(_BASE, weight_rate=0.08),
    "weights 0.16": replace(_BASE, weight_rate=0.16),
    "weights 0.08, start 0, logits 1": replace(_BASE, weight_rate=0.08, initial_scale=0.0, logit_scale=1.0),
    "recipe of digits": replace(_BASE, weight_rate=0.4, normalisation_rate=0.04, beta1=0.5, beta2=0.9),
    "normalisation 0.04": replace(_BASE, normalisation_rate=0.04),
    "beta1 0.5": replace(_BASE, beta1=0.5),
    "beta2 0.999": replace(_BASE, beta2=0.999),
    "batch 32": replace(_BASE, batch=32),
    "batch 128": replace(_BASE, batch=128),
    "warm-up 0.1": replace(_BASE, warm_up=0.1),
    "cosine": replace(_BASE, schedule="cosine"),
    "flat averaged": replace(_BASE, schedule="flat", averaging=0.99),
    "averaged 0.98": replace(_BASE, averaging=0.98),
    "statistics anew": replace(_BASE, re_estimate=True),
    "no smoothing": replace(_BASE, label_smoothing=0.0),
    "smoothing 0.2": replace(_BASE, label_smoothing=0.2),
    "gain 0.5": replace(_BASE, gain=0.5),
    "gain 0.25, shift 0.4": replace(_BASE, gain=0.25, shift=0.4),
    "weights 0.08, gain 0.25, shift 0.4": replace(_BASE, weight_rate=0.08, gain=0.25, shift=0.4),
    "logits 1": replace(_BASE, logit_scale=1.0),
    "start 0": replace(_BASE, initial_scale=0.0),
    "start 0.3": replace(_BASE, initial_scale=0.3),
    "flip": replace(_BASE, flip=True),
    "moved 2": replace(_BASE, reach=2),
    "flip, moved 2": replace(_BASE, flip=True, reach=2),
    "muon 0.02": replace(_BASE, optimiser="muon", weight_rate=0.02),
    "muon 0.05": replace(_BASE, optimiser="muon", weight_rate=0.05),
    "muon 0.01": replace(_MUON, weight_rate=0.01),
    "muon, normalisation 0.01": replace(_MUON, normalisation_rate=0.01),
    "muon, normalisation 0.04": replace(_MUON, normalisation_rate=0.04),
    "muon, start 0.1": replace(_MUON, initial_scale=0.1),
    "muon, start 0.3": replace(_MUON, initial_scale=0.3),
    "muon, gain 0.25": replace(_MUON, gain=0.25),
    "muon, gain 0.5": replace(_MUON, gain=0.5),
    "muon, logits 1": replace(_MUON, logit_scale=1.0),
    "muon, logits 4": replace(_MUON, logit_scale=4.0),
    "muon, flip": replace(_MUON, flip=True),
    "muon, batch 128": replace(_MUON, batch=128),
    "muon, warm-up 0.1": replace(_MUON, warm_up=0.1),
    "muon, no smoothing": replace(_MUON, label_smoothing=0.0),
    "muon, averaged 0.98": replace(_MUON, averaging=0.98),
    "muon, statistics anew": replace(_MUON, re_estimate=True),
    "muon, beta1 0.8": replace(_MUON, beta1=0.8),
    "muon, beta1 0.95": replace(_MUON, beta1=0.95),
    "muon, batch 32": replace(_MUON, batch=32),
    "muon, start 0.1, normalisation 0.01": replace(_MUON, initial_scale=0.1, normalisation_rate=0.01),
    "muon, start 0": replace(_MUON, initial_scale=0.0),
    "muon tuned": _TUNED,
    "muon tuned, 0.03": replace(_TUNED, weight_rate=0.03),
    "muon tuned, flip": replace(_TUNED, flip=True),
    "sgd 1": replace(_BASE, optimiser="sgd", weight_rate=1.0),
    "sgd 10": replace(_BASE, optimiser="sgd", weight_rate=10.0),
    "sgd 100": replace(_BASE, optimiser="sgd", weight_rate=100.0),
}
"""What can be measured: the baseline, one factor changed at a time, then what they led to."""


@dataclass(frozen=True, slots=True)
class Row:
    """One training."""

    name: str
    dataset: str
    """As a trace names it."""
    blocks: int
    filters: int
    hidden: int
    frozen: int
    """Per 10,000."""
    samples: int
    seed: int
    """Of the watermark's practice header, the first weights and the order of samples."""
    train_share: float
    """Right in the last 50 batches, as they were trained."""
    eval_correct: int
    n_eval: int
    seconds: float
    """Of training alone."""
    device: str
    threads: int
    machine: str
    torch: str
    date: str


_COLUMNS = tuple(field.name for field in fields(Row))


class Search:
    """Trains variants of one network on one dataset."""

    def __init__(self, options: argparse.Namespace, dataset: Dataset, compute_logits: ComputeLogits) -> None:
        """Raises RuleViolation for a network that no chain may have."""
        image = dataset.spec.c, dataset.spec.h, dataset.spec.w
        self._spec = NetworkSpec(
            *image, dataset.spec.classes, options.blocks, options.filters, options.hidden
        )
        check_network(self._spec)
        self._options, self._compute_logits = options, compute_logits
        self._data, self._dataset = TrainingData.load(dataset, options.device), name_dataset(dataset.spec)

    def measure(self, name: str, seed: int) -> Row:
        """One training of one variant."""
        options, spec, data = self._options, self._spec, self._data
        header = encode_header(build_practice_header(seed))
        watermark = derive_watermark(header, spec.weight_count, spec.weight_count * options.frozen // 10_000)
        generator, variant = torch.Generator().manual_seed(seed), VARIANTS[name]
        twin = Twin(spec, watermark, generator, variant.gain, variant.shift, options.device)
        started = time.perf_counter()
        stream = train_variant(twin, data, variant, options.samples, generator)
        last = torch.stack(list(deque(stream, maxlen=_WINDOW_STEPS)))
        train_share = float(last.sum()) / (len(last) * variant.batch)
        seconds = time.perf_counter() - started
        right = count_right(self._compute_logits(twin.export(), data.eval.pixels), data.eval.labels)
        origin = describe_origin(options.device, options.threads, "recipes")
        return Row(
            name,
            dataset=self._dataset,
            blocks=options.blocks,
            filters=options.filters,
            hidden=options.hidden,
            frozen=options.frozen,
            samples=options.samples,
            seed=seed,
            train_share=round(train_share, 4),
            eval_correct=right,
            n_eval=len(data.eval),
            seconds=round(seconds, 1),
            device=origin.device,
            threads=origin.threads,
            machine=origin.machine,
            torch=origin.torch,
            date=origin.date,
        )


def run(options: argparse.Namespace) -> int:
    """Measures what the rows lack, prints the table of this setting and returns the exit code."""
    dataset = read_dataset_file(options.data)
    for row in measure_all(options, dataset):
        print(
            f"{row.name}, seed {row.seed}: {row.eval_correct / row.n_eval:.4f} in {row.seconds} s", flush=True
        )
    order = _get_order(options, dataset)
    print(render_table([row for row in read_rows(options.rows) if _get_setting(row) == order]))
    return 0


def measure_all(options: argparse.Namespace, dataset: Dataset) -> Iterator[Row]:
    """Trains each variant with each seed and adds its row to the file; each row is yielded once it is there.

    Raises ValueError where no back-end is exact, for fewer samples than a batch, and for a file that has no
    rows of this command.
    """
    for name in options.variants:
        check_samples(options.samples, VARIANTS[name].batch)
    order = _get_order(options, dataset)
    known = {(row.name, row.seed) for row in read_rows(options.rows) if _get_setting(row) == order}
    wanted = [(name, seed) for seed in options.seeds for name in options.variants]
    lacking = [pair for pair in wanted if pair not in known]
    compute_logits = choose_compute_logits(options.device)
    if compute_logits is None:
        raise ValueError(f"no exact back-end on {options.device}")
    search = Search(options, dataset, compute_logits)
    for name, seed in lacking:
        row = search.measure(name, seed)
        append_row(options.rows, row)
        yield row


def read_rows(path: Path) -> list[Row]:
    """The rows of a file, none where there is no file. Raises ValueError for a file of anything else."""
    if not path.exists():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            if reader.fieldnames != list(_COLUMNS):
                raise ValueError("its first line does not name the columns of its rows")
            return [_decode_row(values) for values in reader]
    except (ValueError, TypeError, csv.Error) as error:
        raise ValueError(f"{path} is no file of this command: {error}") from None


def append_row(path: Path, row: Row) -> None:
    """Adds a row to the file, whose first line names the columns. A kill leaves the file of before.

    One process adds to a file at a time. Raises ValueError for a file of anything else, which stays as it is.
    """
    rows = [*read_rows(path), row]
    draft = path.with_name(f"{path.name}.draft")
    with draft.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(map(asdict, rows))
    draft.replace(path)


def render_table(rows: Sequence[Row]) -> str:
    """Markdown: one line a variant, the best first."""
    names = {row.name for row in rows}
    groups = [[row for row in rows if row.name == name] for name in names]
    lines = [(statistics.mean(_get_accuracy(row) for row in group), _render_line(group)) for group in groups]
    head = (
        "| variant | n | eval accuracy | lowest – highest | s, median |\n| --- | ---: | ---: | ---: | ---: |"
    )
    return "\n".join([head, *(line for _, line in sorted(lines, reverse=True))])


def _render_line(group: Sequence[Row]) -> str:
    shares = [_get_accuracy(row) for row in group]
    spread = f"{min(shares):.2%} – {max(shares):.2%}" if len(shares) > 1 else ""
    seconds = statistics.median(row.seconds for row in group)
    return f"| {group[0].name} | {len(group)} | {statistics.mean(shares):.2%} | {spread} | {seconds:.0f} |"


def _get_accuracy(row: Row) -> float:
    return row.eval_correct / row.n_eval


_Setting = tuple[str, int, int, int, int, int]
"""Dataset, network, share and samples: rows of one are compared."""


def _get_setting(row: Row) -> _Setting:
    return row.dataset, row.blocks, row.filters, row.hidden, row.frozen, row.samples


def _get_order(options: argparse.Namespace, dataset: Dataset) -> _Setting:
    network = options.blocks, options.filters, options.hidden
    return name_dataset(dataset.spec), *network, options.frozen, options.samples


def _decode_row(values: dict[str, str]) -> Row:
    # So csv tells a line that is too long, and one that is too short.
    if None in values or None in values.values():
        raise ValueError("a line has not as many values as there are columns")
    kinds = {"int": int, "float": float, "str": str}
    return Row(**{field.name: kinds[str(field.type)](values[field.name]) for field in fields(Row)})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words of this command."""
    parser.add_argument("--rows", type=Path, default=Path("recipes.csv"), help="measured so far; is added to")
    parser.add_argument(
        "--variants",
        nargs="+",
        choices=VARIANTS,
        default=list(VARIANTS),
        metavar="NAME",
        help="what to train",
    )
    parser.add_argument(
        "--seeds", type=parse_seed, nargs="+", default=[0], metavar="SEED", help="of each variant, a row each"
    )
    parser.add_argument("--blocks", type=parse_count, default=4, help="of the network")
    parser.add_argument("--filters", type=parse_count, default=32, help="of the first block")
    parser.add_argument("--hidden", type=parse_count, default=128, help="units of the hidden layer")
    parser.add_argument("--frozen", type=parse_share, default=7_000, help="share of the weights, per 10,000")
    parser.add_argument("--samples", type=parse_count, default=150_000, help="to train for")
