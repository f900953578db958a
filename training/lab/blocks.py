"""Mine blocks at one rung as a miner does, and hold what they cost against the ladder.

A ladder counts or fits how many whole courses meet a target; here courses are given up, trained side by side
and replaced until one wins, as those of a node are. So a rung that was fitted is tested by what it claims to
tell.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from statistics import mean, stdev

import torch

from consensus.task import Rung
from training.attempt import MiningAttempt
from training.data import TrainingData
from training.lab.bench_rows import describe_origin
from training.lab.inputs import PROCESSES, parse_count, read_task_dataset
from training.lab.lines import append_lines, read_lines
from training.lab.pool import start_pool
from training.lab.traces import digest_values, name_dataset
from training.rate import build_practice_header
from training.recipe import Recipe
from training.tasks import TASK_NAMES, load_task, load_task_file

_FIRST_NONCE = 2**40
"""Behind those of all recorded courses."""
_BLOCKS_APART = 2**36


@dataclass(frozen=True, slots=True)
class MinedBlock:
    """What one block cost, a line of the rows."""

    task: str
    dataset: str
    """The first eight digits of its id."""
    recipe: str
    """Digest of the whole recipe, plans and networks included."""
    frozen: int
    """Per 10,000."""
    min_train_correct: int
    min_eval_correct: int
    work: int
    """Of the rung, in million multiply-accumulates."""
    number: int
    """Of the block at this rung: the same number, the same headers and seeds."""
    networks: int
    """Trained, most of them to where they were given up."""
    multiply_accumulates: int
    """Of all looks and courses, with the networks that the winner left unused."""
    seconds: float
    """Of the clock."""
    machine: str
    torch: str
    date: str

    @property
    def kind(self) -> tuple[str, str, str, int, int, int, int]:
        """Task, dataset, recipe and rung: blocks of one kind are compared with its work."""
        rung = (self.work, self.frozen, self.min_train_correct, self.min_eval_correct)
        return self.task, self.dataset, self.recipe, *rung


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words of this command."""
    parser.add_argument("--task", choices=TASK_NAMES, required=True)
    parser.add_argument("--work", type=parse_count, required=True, help="in M: the rung with it or the next")
    parser.add_argument("--blocks", type=parse_count, default=20, help="to mine at the rung in all")
    parser.add_argument("--processes", type=parse_count, default=PROCESSES, help="that mine side by side")
    parser.add_argument("--rows", type=Path, default=Path("blocks.jsonl"), help="blocks mined so far")


def run(options: argparse.Namespace) -> int:
    """Mines what the rows lack, prints a line for every rung in them and returns the exit code.

    Raises ValueError for a rung above the ladder and for the wrong dataset.
    """
    file = load_task_file(options.task)
    rung = next((rung for rung in file.rungs if rung.work >= options.work), None)
    if rung is None:
        raise ValueError(f"the ladder of {options.task} ends below {options.work:,} M")
    targets = (rung.work, rung.frozen, rung.min_train_correct, rung.min_eval_correct)
    dataset = name_dataset(read_task_dataset(options.task, options.data).spec)
    kind = (options.task, dataset, _digest(file.recipe), *targets)
    known = {block.number for block in read_lines(options.rows, MinedBlock) if block.kind == kind}
    missing = [number for number in range(options.blocks) if number not in known]
    with start_pool(options.processes, _start_worker, options) as pool:
        mined = pool.map(partial(_mine, options.task, dataset, rung), missing)
        for block in append_lines(options.rows, mined, MinedBlock):
            print(f"block {block.number}: {block.multiply_accumulates // 10**6:,} M", flush=True)
    print(render_blocks(read_lines(options.rows, MinedBlock)))
    return 0


def mine_block(attempt: MiningAttempt, rung: Rung, number: int) -> tuple[int, int]:
    """(networks trained, multiply-accumulates) until a witness meets the rung."""
    header = build_practice_header(_FIRST_NONCE + number * _BLOCKS_APART)
    # Not the nonce: a generator of torch looks at the 32 low bits of a seed alone.
    search = attempt.search(header, rung, random.Random(number).getrandbits(32))
    candidates = search.take(attempt.count_networks(rung))
    result = attempt.run(candidates, rung, lambda: False, lambda progress: None, search.take_one)
    return result.networks, search.spent + result.multiply_accumulates


_attempt: MiningAttempt
"""Of a worker process."""


def _start_worker(options: argparse.Namespace) -> None:
    global _attempt
    torch.set_num_threads(options.threads)
    dataset = read_task_dataset(options.task, options.data)
    task, recipe = load_task(options.task, dataset.spec), load_task_file(options.task).recipe
    _attempt = MiningAttempt(task, TrainingData.load(dataset, options.device), recipe, options.device)


def _mine(task: str, dataset: str, rung: Rung, number: int) -> MinedBlock:
    started = time.perf_counter()
    networks, spent = mine_block(_attempt, rung, number)
    seconds = round(time.perf_counter() - started, 2)
    origin = describe_origin(str(_attempt.data.inputs.device), torch.get_num_threads(), "lab blocks")
    return MinedBlock(
        task,
        dataset,
        _digest(_attempt.recipe),
        rung.frozen,
        rung.min_train_correct,
        rung.min_eval_correct,
        rung.work,
        number,
        networks,
        spent,
        seconds,
        origin.describe_machine(),
        origin.torch,
        origin.date,
    )


def _digest(recipe: Recipe) -> str:
    return digest_values(asdict(recipe))


def render_blocks(blocks: Sequence[MinedBlock]) -> str:
    """A Markdown table, a line for every rung: ± is one standard error of the mean."""
    lines = [
        "| task | dataset | recipe | frozen | target | rung (M) | blocks | cost of a block (M)"
        " | over rung's | CV |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (task, dataset, recipe, work, frozen, target, _), group in groupby(
        sorted(blocks, key=lambda block: block.kind), key=lambda block: block.kind
    ):
        costs = [block.multiply_accumulates / 1e6 for block in group]
        cells = [task, dataset, recipe, f"{frozen / 100:g} %", f"{target:,}", f"{work:,}", str(len(costs))]
        lines.append(f"| {' | '.join((*cells, *_summarise(costs, work)))} |")
    return "\n".join(lines)


def _summarise(costs: Sequence[float], work: int) -> tuple[str, str, str]:
    """Mean, its ratio to the rung's work and the coefficient of variation."""
    average = mean(costs)
    if len(costs) == 1:
        return f"{average:,.0f}", f"{average / work:.2f}", "–"
    spread = stdev(costs)
    error = spread / len(costs) ** 0.5
    mean_cost = f"{average:,.0f} ± {error:,.0f}"
    return mean_cost, f"{average / work:.2f} ± {error / work:.2f}", f"{spread / average:.2f}"
