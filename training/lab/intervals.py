"""Simulate how intervals settle when miners come and go, and who wins: `python -m training.lab intervals`.

Attempts are drawn from the measured courses of a ladder; difficulty, easing and timestamps are consensus's
own functions. Nothing is trained and no clock is read.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from consensus.block import Header
from consensus.dataset import DatasetSpec
from consensus.difficulty import compute_difficulty, compute_earliest_timestamp, compute_eased_difficulty
from consensus.encoding import ZERO_HASH
from consensus.params import ChainParams, check_params
from training.lab.fairness import FAIRNESS_TABLE, Field, render_fairness
from training.lab.inputs import parse_count, parse_positive, read_task_dataset
from training.lab.lottery import GetLottery, Lottery, Random, build_lotteries
from training.lab.traces import read_traces
from training.tasks import TASK_NAMES, TaskFile, load_task, load_task_file

_WARM_BLOCKS = 60
_WATCHED_BLOCKS = 80
WINDOWS = ((1, 10), (11, 20), (21, 40), (41, 60), (61, 80))
_EASING_INTERVALS = 2
_parse_runs = partial(parse_count, least=2)
"""One alone has no spread."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """Miners before and after a change, each with its speed as a share of the power the chain is used to."""

    name: str
    before: tuple[float, ...]
    after: tuple[float, ...]
    pause_intervals: int = 0
    """Target intervals without any miner between the two."""


SCENARIOS = (
    Scenario("nothing changes", (0.5, 0.5), (0.5, 0.5)),
    Scenario("miners double", (0.5, 0.5), (0.5,) * 4),
    Scenario("miners halve", (0.25,) * 4, (0.25,) * 2),
    Scenario("all vanish for 20 intervals", (0.5, 0.5), (0.5, 0.5), 20),
    Scenario("all vanish for 100 intervals", (0.5, 0.5), (0.5, 0.5), 100),
    Scenario("nine in ten vanish", (0.1,) * 10, (0.1,)),
    Scenario("nine in ten return", (0.1,), (0.1,) * 10),
)


@dataclass(slots=True)
class Chain:
    """The end of a simulated chain and the time at which it was found there."""

    params: ChainParams
    parent: Header
    grandparent_timestamp: int | None
    now: float

    def mine(self, speeds: Sequence[float], get_lottery: GetLottery, random: Random) -> None:
        """One block by miners of these speeds, in million multiply-accumulates a second."""
        difficulty = compute_difficulty(self.params, self.parent, self.grandparent_timestamp)
        found, timestamp = min(self._find(speed, difficulty, get_lottery, random) for speed in speeds)
        self.grandparent_timestamp = self.parent.timestamp
        self.parent = _build_header(self.parent.height + 1, timestamp, difficulty)
        self.now = found

    def _find(
        self, speed: float, difficulty: int, get_lottery: GetLottery, random: Random
    ) -> tuple[float, int]:
        """When this miner alone would have a block, and its timestamp: every network has a fresh template."""
        earliest = compute_earliest_timestamp(self.params, self.parent.timestamp)
        now = self.now
        while True:
            timestamp = max(int(now), earliest)
            eased = compute_eased_difficulty(self.params, difficulty, timestamp, self.parent.timestamp)
            ends = now + get_lottery(self.params.task.get_rung(eased)).draw(random).cumsum() / speed
            starts = np.append(now, ends[:-1])
            thaw = self._get_next_thaw(timestamp)
            if starts[-1] < thaw:
                timestamp = max(int(starts[-1]), earliest)
                return max(float(ends[-1]), float(timestamp)), timestamp
            # Attempts that start once the rung has eased are easier; the one before is brought to its end.
            now = float(ends[starts < thaw][-1])

    def _get_next_thaw(self, timestamp: int) -> float:
        interval = self.params.target_interval
        first = self.parent.timestamp + (6 + _EASING_INTERVALS) * interval
        steps = max(0, (timestamp - first) // (_EASING_INTERVALS * interval) + 1)
        return float(first + steps * _EASING_INTERVALS * interval)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words of this command."""
    parser.add_argument("--task", choices=TASK_NAMES, required=True)
    parser.add_argument("--rows", type=Path, required=True, help="the courses that the ladder was built of")
    parser.add_argument(
        "--power",
        type=parse_positive,
        nargs="+",
        default=[2_000.0, 5_500.0, 15_000.0, 100_000.0],
        help="million multiply-accumulates a second of all miners together",
    )
    parser.add_argument("--interval", type=parse_count, default=20, help="seconds aimed at between blocks")
    parser.add_argument("--runs", type=_parse_runs, default=200, help="of each scenario and power")
    parser.add_argument("--out", type=Path, default=Path("intervals.csv"), help="the intervals")
    parser.add_argument("--page", type=Path, default=Path("intervals.md"), help="the tables, to be read")


def run(options: argparse.Namespace) -> int:
    """Simulates every scenario at every power, and writes CSV and page."""
    dataset = read_task_dataset(options.task, options.data)
    file = load_task_file(options.task)
    get_lottery = build_lotteries(file, read_traces(options.rows), dataset.spec)
    results = []
    for power in options.power:
        params = build_params(options.task, dataset.spec, power, options.interval)
        for scenario in SCENARIOS:
            random = np.random.default_rng(0)
            intervals = np.array(
                [simulate(params, scenario, power, get_lottery, random) for _ in range(options.runs)]
            )
            results.append(Result(power, scenario.name, intervals / options.interval))
            print(render_row(results[-1]), flush=True)
    _write_csv(options.out, results)
    powers = " ".join(f"{power:g}" for power in options.power)
    words = f"--task {options.task} --rows {options.rows} --interval {options.interval} --power {powers}"
    fairness: list[str] = []
    for power in options.power:
        params = build_params(options.task, dataset.spec, power, options.interval)
        fairness += _compare(params, get_lottery, file)
    print("\n".join(fairness))
    page = [*_render_page(words, options, results), FAIRNESS_TABLE, *fairness]
    options.page.write_text("\n".join(page) + "\n", "utf-8")
    return 0


def _compare(params: ChainParams, get_lottery: GetLottery, file: TaskFile) -> Iterator[str]:
    """Of miners fast and slow, at the rung that the chain begins with."""
    rung, interval = params.task.get_rung(params.initial_difficulty), params.target_interval

    def find(most: int | None) -> tuple[int, Lottery]:
        return file.recipe.get_plan(rung, most).samples, get_lottery(rung, most)

    # What the rungs ask for is less than the power can do; the miners are as fast as the rung is worth.
    return render_fairness(rung.work / interval, Field(file.network, file.recipe, rung.work, interval, find))


@dataclass(frozen=True, slots=True)
class Result:
    """The intervals behind a change."""

    power: float
    scenario: str
    intervals: npt.NDArray[np.float64]
    """[runs, blocks], in target intervals."""

    def compute_window(self, first: int, last: int) -> tuple[float, float]:
        """(mean, deviation over runs) of the mean interval of the blocks `first` to `last`."""
        means = self.intervals[:, first - 1 : last].mean(axis=1)
        return float(means.mean()), float(means.std(ddof=1))


def build_params(name: str, dataset: DatasetSpec, power: float, interval: int) -> ChainParams:
    """A chain whose genesis has the difficulty of that power, in million multiply-accumulates a second.

    `interval` is the target in seconds. Raises RuleViolation for one that no chain may have.
    """
    task = load_task(name, dataset)
    works = [rung.work for rung in task.rungs]
    difficulty = min(max(round(power * interval), works[0]), works[-1])
    params = ChainParams(
        name="intervals",
        target_interval=interval,
        halving_interval=100_000,
        initial_reward=50,
        maturity=5,
        max_transactions=1,
        genesis_timestamp=0,
        initial_difficulty=difficulty,
        balances=(),
        task=task,
    )
    check_params(params)
    return params


def simulate(
    params: ChainParams, scenario: Scenario, power: float, get_lottery: GetLottery, random: Random
) -> list[float]:
    """Seconds between the blocks behind the change; the first counts from the end of a pause."""
    chain = Chain(params, _build_header(0, 0, params.initial_difficulty), None, 0.0)
    for _ in range(_WARM_BLOCKS):
        chain.mine([share * power for share in scenario.before], get_lottery, random)
    chain.now += scenario.pause_intervals * params.target_interval
    intervals = []
    for _ in range(_WATCHED_BLOCKS):
        before = chain.now
        chain.mine([share * power for share in scenario.after], get_lottery, random)
        intervals.append(chain.now - before)
    return intervals


def _build_header(height: int, timestamp: int, difficulty: int) -> Header:
    return Header(1, height, ZERO_HASH, ZERO_HASH, timestamp, ZERO_HASH, ZERO_HASH, difficulty, ZERO_HASH, 0)


def render_row(result: Result) -> str:
    """A line of the page's table."""
    cells = ["{:.2f} ± {:.2f}".format(*result.compute_window(*window)) for window in WINDOWS]
    return f"| {result.power:,.0f} | {result.scenario} | {' | '.join(cells)} |"


def _render_page(words: str, options: argparse.Namespace, results: Sequence[Result]) -> Iterator[str]:
    headings = " | ".join(f"blocks {first}–{last}" for first, last in WINDOWS)
    yield f"""# Do intervals settle?

Mean interval between blocks behind a change, in target intervals (1 is the target of
{options.interval} s), ± one standard deviation of that mean from run to run; n = {options.runs} runs
of every line, each {_WARM_BLOCKS} blocks old when the change comes. Written by

    freezenet lab intervals {words} --runs {options.runs}

(beside it `--data FILE --out FILE --page FILE`: the dataset, a CSV and this page). Its seeds are fixed: it
draws the same on every machine. Every miner draws its attempts from the measured courses of the
`{options.task}` ladder: their cost at the rung that the chain asks for, with the ladder's chance, above its
counted rungs a fitted one.
Difficulty, easing and the rule of timestamps are the consensus code.
Network delays are left out. Power is that of all miners together where all are there, in million
multiply-accumulates a second.

| power | change | {headings} |
|---|---|{"---|" * len(WINDOWS)}"""
    yield from map(render_row, results)


def _write_csv(path: Path, results: Sequence[Result]) -> None:
    """A row for each scenario, power and block behind the change: mean and deviation over the runs."""
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["power_m_per_second", "scenario", "block", "runs", "mean_interval", "deviation"])
        for result in results:
            for index, column in enumerate(result.intervals.T):
                mean, deviation = f"{column.mean():.4f}", f"{column.std(ddof=1):.4f}"
                rows.writerow([result.power, result.scenario, index + 1, len(column), mean, deviation])
