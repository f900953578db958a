"""Price a miner who tries the headers of near misses again: `python -m training.lab again --task NAME`.

Much of what decides a course's end is luck of the header, which another course under the same header has
again. A header that misses narrowly may be worth others, as long or longer, from fresh weights, before the
next header is looked at. Chances of the first course are the ladder's; of the others they are counted.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from consensus.task import Rung
from training.lab.calibrate import Order, build_plan, measure
from training.lab.columns import Columns
from training.lab.inputs import PROCESSES, parse_count, parse_positive, parse_share, read_task_dataset
from training.lab.ladder import MIN_SUCCESSES, Chances, Sizes, Stretch, choose_crosswise, fit_chances
from training.lab.traces import SEEDS_APART, Goal, Trace, check_traces, read_traces
from training.tasks import TASK_NAMES, TaskFile, load_task_file

_REPEATS = (1, 2, 4)
_DRAWS = 2_000
_parse_more = partial(parse_count, least=0)
"""The ladder's own course under a header is one already, where there is one."""


@dataclass(frozen=True, slots=True)
class NearMiss:
    """A header whose first course missed narrowly, and that was tried again."""

    wins: float
    """Share of its further courses that meet the target."""
    cost: float
    """Of one of these, on average."""

    def repeat(self, times: int) -> tuple[float, float]:
        """(probability that one of so many courses wins, their cost until one does)."""
        lost = 1 - self.wins
        begun = float(times) if self.wins == 0 else (1 - lost**times) / self.wins
        return 1 - lost**times, begun * self.cost


@dataclass(frozen=True, slots=True)
class Price:
    """Of a rung, over its work in the ladder."""

    rung: Rung
    first: float
    """Probability that a first course wins."""
    near: tuple[NearMiss, ...]
    ratios: tuple[tuple[float, float, float], ...]
    """For every number of repeats: the ratio and its 95 % interval, by the near misses alone: what the first
    course costs and how often it wins is taken as exact."""


@dataclass(frozen=True, slots=True)
class Side:
    """Courses of one length with when they give up, as the ladder would choose it."""

    stretch: Stretch
    columns: Columns
    allowances: npt.NDArray[np.float64]
    """float64[checkpoints, courses] in records."""
    chances: Chances
    """Of targets that too few met."""

    @classmethod
    def build(cls, stretch: Stretch, sizes: Sizes) -> Side:
        """Of measured courses."""
        allowances = choose_crosswise(stretch, sizes)
        return cls(stretch, Columns(stretch.traces), allowances, fit_chances(stretch, sizes))


def _parse_miss(text: str) -> float:
    miss = parse_positive(text)
    if miss >= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share of the train split below 1")
    return miss


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words of this command."""
    parser.add_argument("--task", choices=TASK_NAMES, required=True)
    parser.add_argument("--frozen", type=parse_share, default=9_800, help="per 10,000")
    parser.add_argument("--first", type=parse_count, required=True, help="samples of a header's first course")
    parser.add_argument("--second", type=parse_count, required=True, help="samples of the others")
    parser.add_argument("--courses", type=_parse_more, default=4, help="to measure for each near miss")
    parser.add_argument(
        "--miss", type=_parse_miss, default=0.03, help="a miss by up to this share of the train split is near"
    )
    parser.add_argument("--calibration", type=Path, help="the ladder's courses, where not in docs/lab")
    parser.add_argument("--processes", type=parse_count, default=PROCESSES, help="that measure side by side")
    parser.add_argument("--rows", type=Path, default=Path("again-rows.jsonl"), help="courses measured so far")


def run(options: argparse.Namespace) -> int:
    """Measures what the rows lack and prints the prices; returns the exit code.

    Rungs are those that the ladder mines by the second length. Raises ValueError for courses of another task,
    for lengths that the ladder or its courses have not, and where nothing was tried again.
    """
    dataset, file = read_task_dataset(options.task, options.data), load_task_file(options.task)
    path = options.calibration or Path(f"docs/lab/{options.task}-rows.jsonl")
    if not path.exists():
        raise ValueError(f"there is no file {path}")
    known = read_traces(path)
    check_traces([*known, *read_traces(options.rows)], file.network, dataset.spec, file.recipe)
    sizes = Sizes.build(dataset.spec.n_train, dataset.spec.n_eval, file.network)
    first, second = (
        Side.build(_collect(known, options.frozen, samples, file), sizes)
        for samples in (options.first, options.second)
    )
    kind = options.frozen, options.second
    rungs = [rung for rung in file.rungs if (rung.frozen, file.recipe.get_plan(rung).samples) == kind]
    if not rungs:
        raise ValueError(f"the ladder of {options.task} mines no rung by {options.second} samples")
    miss = options.miss * sizes.n_train
    seeds = sorted({seed for rung in rungs for seed in find_near(first, rung, miss)})
    plan = build_plan(Order(options.frozen, options.second, 0), file.recipe)
    orders = [
        (plan, options.frozen, seed + number * SEEDS_APART)
        for number in range(1, options.courses + 1)
        for seed in seeds
    ]
    measure(options, file.network, file.recipe, orders, counts_estimates=True)
    # Of one length the ladder's own course is the near miss itself.
    own = second.stretch.traces if options.first != options.second else ()
    again = group_again([trace for trace in (*read_traces(options.rows), *own) if _get_kind(trace) == kind])
    prices = [price for rung in rungs if (price := price_rung(rung, first, second, again, sizes, miss))]
    if not prices:
        raise ValueError("no header came near and was tried again: a larger --miss, or more --courses")
    print(render(prices))
    return 0


def _collect(traces: Sequence[Trace], frozen: int, samples: int, file: TaskFile) -> Stretch:
    mine = tuple(trace for trace in traces if _get_kind(trace) == (frozen, samples))
    if not mine:
        raise ValueError(f"no course of {samples} samples at {frozen} per 10,000 frozen was measured")
    return Stretch(frozen, build_plan(Order(frozen, samples, 0), file.recipe), mine)


def find_near(side: Side, rung: Rung, miss: float) -> list[int]:
    """Seeds of the courses that were trained whole and ended without a win, at most `miss` records short."""
    goal = Goal(rung.min_train_correct, rung.min_eval_correct)
    wins, _, last = side.columns.follow(goal, side.allowances)
    shown = side.columns.shown[np.arange(len(last)), last]
    is_near = ~wins & (last >= side.stretch.plan.parts) & (shown >= goal.train - miss)
    return [side.stretch.traces[int(place)].seed for place in np.flatnonzero(is_near)]


def _get_kind(trace: Trace) -> tuple[int, int]:
    return trace.frozen, trace.samples


def group_again(traces: Sequence[Trace]) -> dict[int, list[Trace]]:
    """Courses by the seed of their header."""
    grouped: defaultdict[int, list[Trace]] = defaultdict(list)
    for trace in traces:
        grouped[trace.seed % SEEDS_APART].append(trace)
    return grouped


def price_rung(
    rung: Rung, first: Side, second: Side, again: dict[int, list[Trace]], sizes: Sizes, miss: float
) -> Price | None:
    """None where no header that came near was tried again."""
    goal = Goal(rung.min_train_correct, rung.min_eval_correct)
    wins, costs = first.columns.replay(goal, first.allowances, sizes.recount_cost)
    probability = float(wins.mean())
    if wins.sum() < MIN_SUCCESSES:
        probability = first.chances.compute(goal.train)
    allowances = np.median(second.allowances, axis=1)
    # The header is chosen already.
    allowances[0] = 0
    near: list[NearMiss] = []
    for seed in find_near(first, rung, miss):
        if seed not in again:
            continue
        won, spent = Columns(again[seed]).replay(goal, allowances, sizes.recount_cost)
        near.append(NearMiss(float(won.mean()), float(spent.mean())))
    if not near:
        return None
    weights = np.random.default_rng(0).poisson(1, (_DRAWS, len(near)))
    # The first row is what was measured.
    weights = np.vstack([np.ones_like(weights[:1]), weights])
    ratios = []
    for times in _REPEATS:
        repeated = np.array([header.repeat(times) for header in near])
        won, spent = (weights @ repeated / len(costs)).T
        ratio = (costs.mean() + spent) / (probability + won) / (rung.work * 1e6)
        low, high = np.quantile(ratio[1:], (0.025, 0.975))
        ratios.append((float(ratio[0]), float(low), float(high)))
    return Price(rung, probability, tuple(near), tuple(ratios))


def render(prices: Sequence[Price]) -> str:
    """A Markdown table, a line for every rung."""
    head = " | ".join(f"{times} more" for times in _REPEATS)
    lines = [
        f"| right | rung (M) | first course wins | near misses | another course wins | {head} |",
        "|---|---|---|---|---|" + "---|" * len(_REPEATS),
    ]
    for price in prices:
        chance = np.mean([each.wins for each in price.near])
        cells = [
            f"{price.rung.min_train_correct:,}", f"{price.rung.work:,}", f"{100 * price.first:.2g} %",
            f"{len(price.near)}", f"{chance:.2f}",
            *(f"{middle:.2f} ({low:.2f} – {high:.2f})" for middle, low, high in price.ratios),
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
