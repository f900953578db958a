"""Mine blocks at one rung as a miner does, and hold what they cost against the ladder.

A ladder counts or fits how many whole courses meet a target; here attempts give up, share passes and end
them as those of a node do, until one wins. So a rung that was fitted is tested by what it claims to tell.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from pathlib import Path
from statistics import mean, stdev

import torch

from consensus.block import Header
from consensus.task import Rung, Task
from training.attempt import MiningAttempt
from training.data import TrainingData
from training.lab.bench_rows import describe_processor
from training.lab.inputs import PROCESSES, parse_count, read_task_dataset
from training.lab.pool import start_pool
from training.lab.traces import digest_recipe
from training.rate import HEADERS_APART, build_practice_header
from training.tasks import TASK_NAMES, load_task, load_task_file

_FIRST_NONCE = 2**40
"""Behind those of all recorded courses."""
_BLOCKS_APART = 2**36


@dataclass(frozen=True, slots=True)
class MinedBlock:
    """What one block cost, a line of the rows."""

    task: str
    recipe: str
    """digest_recipe of what was followed."""
    frozen: int
    """Per 10,000."""
    min_train_correct: int
    min_eval_correct: int
    work: int
    """Of the rung, in million multiply-accumulates."""
    number: int
    """Of the block at this rung: the same number, the same nonces."""
    passes: int
    networks: int
    """Trained, most of them to where they were given up."""
    multiply_accumulates: int
    """Of all looks and passes, with the networks that the winner left unused."""
    seconds: float
    """Of one process."""
    machine: str
    date: str

    @property
    def rung(self) -> tuple[str, str, Rung]:
        """Task, recipe and rung: blocks of one are compared with its work."""
        return (
            self.task,
            self.recipe,
            Rung(self.frozen, self.min_train_correct, self.min_eval_correct, self.work),
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words of this command."""
    parser.add_argument("--task", choices=TASK_NAMES, required=True)
    parser.add_argument("--data", type=Path, required=True, help="the dataset in one file")
    parser.add_argument("--work", type=parse_count, required=True, help="in M: the rung with it or the next")
    parser.add_argument("--blocks", type=parse_count, default=20, help="to mine at the rung in all")
    parser.add_argument("--processes", type=parse_count, default=PROCESSES, help="that mine side by side")
    parser.add_argument("--rows", type=Path, default=Path("blocks.jsonl"), help="blocks mined so far")


def run(options: argparse.Namespace) -> int:
    """Mines what the rows lack, prints a line for every rung in them and returns the exit code.

    Raises ValueError for a rung above the ladder.
    """
    file = load_task_file(options.task)
    rung = next((rung for rung in file.rungs if rung.work >= options.work), None)
    if rung is None:
        raise ValueError(f"the ladder of {options.task} ends below {options.work:,} M")
    known = {(block.rung, block.number) for block in read_blocks(options.rows)}
    name = (options.task, digest_recipe(file.recipe), rung)
    missing = [number for number in range(options.blocks) if (name, number) not in known]
    pool = start_pool(options.processes, _start_worker, options)
    with pool, options.rows.open("a", encoding="utf-8") as rows:
        for block in pool.map(partial(_mine, rung), missing):
            rows.write(json.dumps(asdict(block)) + "\n")
            rows.flush()
            print(f"block {block.number}: {block.multiply_accumulates // 10**6:,} M", flush=True)

    print(render_blocks(read_blocks(options.rows)))
    return 0


def mine_block(attempt: MiningAttempt, rung: Rung, number: int) -> tuple[int, int, int]:
    """(passes, networks trained, multiply-accumulates) until a witness meets the rung."""
    header = build_practice_header(_FIRST_NONCE + number * _BLOCKS_APART)
    passes = networks = spent = 0
    while True:
        start = _count_up(header, passes)
        candidates, looked = attempt.choose(start, rung, start.nonce, attempt.recipe.networks, lambda: False)
        result = attempt.run(candidates, rung, lambda: False, lambda progress: None)
        passes += 1
        networks += len(candidates)
        spent += looked + result.multiply_accumulates
        if result.witness is not None:
            return passes, networks, spent


def _count_up(header: Header, passes: int) -> Header:
    return replace(header, nonce=header.nonce + passes * HEADERS_APART)


_attempt: MiningAttempt
_task: str
"""Of a worker process."""


def _start_worker(options: argparse.Namespace) -> None:
    global _attempt, _task
    torch.set_num_threads(options.threads)
    dataset = read_task_dataset(options.task, options.data)
    file = load_task_file(options.task)
    task: Task = load_task(options.task, dataset.spec)
    data = TrainingData.load(dataset, options.device)
    _attempt, _task = MiningAttempt(task, data, file.recipe, options.device), options.task


def _mine(rung: Rung, number: int) -> MinedBlock:
    started = datetime.now(UTC)
    passes, networks, spent = mine_block(_attempt, rung, number)
    ended = datetime.now(UTC)
    return MinedBlock(
        _task,
        digest_recipe(_attempt.recipe),
        rung.frozen,
        rung.min_train_correct,
        rung.min_eval_correct,
        rung.work,
        number,
        passes,
        networks,
        spent,
        round((ended - started).total_seconds(), 2),
        describe_processor(),
        ended.date().isoformat(),
    )


def read_blocks(path: Path) -> list[MinedBlock]:
    """The blocks of a file, none where there is no file."""
    if not path.exists():
        return []
    return [MinedBlock(**json.loads(line)) for line in path.read_text("utf-8").splitlines()]


def render_blocks(blocks: Sequence[MinedBlock]) -> str:
    """A Markdown table, a line for every rung: ± is one standard error of the mean."""
    lines = [
        "| task | train target | rung (M) | blocks | cost of a block (M) | over the rung's | CV of cost |",
        "|---|---|---|---|---|---|---|",
    ]
    for (task, _, rung), group in groupby(sorted(blocks, key=_get_order), key=lambda block: block.rung):
        costs = [block.multiply_accumulates / 1e6 for block in group]
        average, spread = mean(costs), stdev(costs) if len(costs) > 1 else 0.0
        error = spread / len(costs) ** 0.5
        cells = [task, f"{rung.min_train_correct:,}", f"{rung.work:,}", str(len(costs))]
        cells += [f"{average:,.0f} ± {error:,.0f}"]
        cells += [f"{average / rung.work:.2f} ± {error / rung.work:.2f}", f"{spread / average:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _get_order(block: MinedBlock) -> tuple[str, str, int, int]:
    return block.task, block.recipe, block.work, block.min_train_correct
