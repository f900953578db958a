"""The table of all prices, from the recordings: the rows of the CSV, the page's tables and the picture."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from training.lab.attacks.catalogue import BY_NAME, TRAINED
from training.lab.attacks.frame import Ground
from training.lab.attacks.grinding import GRINDINGS, grind
from training.lab.attacks.lengths import REFERENCE
from training.lab.attacks.prices import (
    Choose,
    Price,
    Ratio,
    Shift,
    attempt_all,
    choose_as_reference,
    choose_for_goal,
    choose_goals,
    choose_pickier,
    compute_price,
    compute_shift,
    compute_spread,
    estimate_price,
)
from training.lab.attacks.rows import (
    Recording,
    choose_machine,
    end_earlier,
    even_out,
    even_out_beside,
    join_calibration,
)
from training.lab.ladder import Sizes
from training.lab.traces import NOT_COUNTED, Goal, Trace

_PROBABILITIES = (0.5, 0.2, 0.05)
"""Shares of the reference's courses that meet the targets at which attacks are priced."""
_DEEP = 0.02
"""One more, where enough courses meet it."""
_ENOUGH_WINS = 10
"""Fewer are not counted: the shift tells more."""


@dataclass(frozen=True, slots=True)
class Line:
    """The price of one attack at one target."""

    attack: str
    meaning: str
    frozen: int
    samples: int
    """Of the reference's course."""
    probability: float
    """Share of the reference's whole courses that meet the target."""
    goal: Goal
    price: Price
    mean: float
    """Train records right at the end of a course, and their standard deviation."""
    deviation: float
    shift: Shift
    once: float
    """Spent once for all blocks, in courses of the reference."""


@dataclass(frozen=True, slots=True)
class _Case:
    """An attack and the courses that tell its price."""

    name: str
    meaning: str
    courses: Sequence[Recording]
    choose: Choose
    once: float


def build_lines(
    ground: Ground, recordings: Sequence[Recording], calibration: Sequence[Trace]
) -> Iterator[Line]:
    """All prices at one share of frozen weights, target by target."""
    mine = [recording for recording in recordings if recording.ground == ground.key]
    cases = list(_collect_cases(ground, mine, calibration))
    count = len(ground.data.train)
    sizes = Sizes.build(count, len(ground.data.eval), ground.network)
    shifts = {case.name: compute_shift(case.courses, cases[0].courses) for case in cases}
    probabilities = choose_probabilities(len(cases[0].courses))
    goals = choose_goals(cases[0].courses, probabilities)
    later = _count_later(ground)
    traces = [recording.get_trace() for recording in cases[0].courses]
    near = choose_as_reference(traces, goals[0], sizes)[-1 - later] * count if later else 0.0
    for probability, goal in zip(probabilities, goals, strict=True):
        outcomes = [attempt_all(case.courses, goal, sizes, case.choose) for case in cases]
        for case, attempts in zip(cases, outcomes, strict=True):
            price = compute_price(attempts, outcomes[0])
            shift = shifts[case.name]
            # The model compares whole courses: of the reference's own, ended earlier, it tells too little.
            if price.wins < _ENOUGH_WINS and shift.error and case.name in BY_NAME:
                sides = case.courses, cases[0].courses
                work, seconds = estimate_price(*sides, shift, goal, later, near)
                price = replace(price, work=work, seconds=seconds, is_counted=False)
            mean, deviation = compute_spread(case.courses)
            yield Line(
                case.name,
                case.meaning,
                ground.frozen,
                ground.samples,
                probability,
                goal,
                price,
                mean,
                deviation,
                shift,
                case.once,
            )


def choose_probabilities(courses: int) -> tuple[float, ...]:
    """Those of the targets, by how many courses of the reference there are."""
    return (*_PROBABILITIES, _DEEP) if _DEEP * courses >= _ENOUGH_WINS else _PROBABILITIES


def _collect_cases(
    ground: Ground, recordings: Sequence[Recording], calibration: Sequence[Trace]
) -> Iterator[_Case]:
    """The reference first."""
    by_attack = {name: [r for r in recordings if r.attack == name] for name in BY_NAME}
    if not by_attack[REFERENCE.name]:
        raise ValueError(f"the reference was not recorded at {ground.frozen} per 10,000 frozen")
    own = by_attack[REFERENCE.name]
    machine = choose_machine(own)
    reference = join_calibration(even_out(own, machine), calibration)
    yield _Case(REFERENCE.name, REFERENCE.meaning, reference, choose_as_reference, 0)
    for attack in TRAINED:
        if courses := by_attack[attack.name]:
            timed = even_out_beside(courses, own, machine)
            yield _Case(attack.name, attack.meaning, timed, choose_as_reference, attack.once)
    if later := _count_later(ground):
        ended = [end_earlier(recording, later) for recording in reference]
        courses = [recording for recording in ended if recording.train_correct[-1] != NOT_COUNTED] or ended
        meaning = (
            "ends behind the first stage of the polish, without another or a search, however little is missed"
        )
        yield _Case("first stage alone", meaning, courses, choose_as_reference, 0)
    yield _Case("own give-up", "gives up by a schedule for this one target", reference, choose_for_goal, 0)
    meaning = "trains only for the twentieth of headers that promises most"
    yield _Case("look harder", meaning, reference, choose_pickier, 0)
    # One half tells what promises, the other what it is worth.
    for grinding in GRINDINGS if len(reference) > 1 else ():
        courses = grind(ground, reference, grinding.look)
        yield _Case(grinding.name, grinding.meaning, courses, choose_as_reference, grinding.once)


def _count_later(ground: Ground) -> int:
    """Stages of the polish behind the first."""
    polish = ground.recipe.polish
    return max(0, len(polish.tune_steps) + polish.sweeps - 1)


def write_csv(path: Path, lines: Sequence[Line]) -> None:
    """One row for each line."""
    columns = "attack frozen samples probability train eval attempts wins work work_low work_high"
    columns += " seconds seconds_low seconds_high counted mean deviation shift shift_error once"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns.split())
        for line in lines:
            writer.writerow(_get_cells(line))


def _get_cells(line: Line) -> Iterator[object]:
    price = line.price
    yield from (line.attack, line.frozen, line.samples, line.probability, line.goal.train, line.goal.eval)
    yield from (price.attempts, price.wins)
    for ratio in (price.work, price.seconds):
        yield from (f"{value:.4g}" for value in (ratio.value, ratio.low, ratio.high))
    yield from (price.is_counted, f"{line.mean:.1f}", f"{line.deviation:.1f}")
    yield from (f"{line.shift.mean:.1f}", f"{line.shift.error:.1f}", line.once)


def render_table(lines: Sequence[Line]) -> str:
    """Markdown: a row for each attack, a column for each target, all of one share of frozen weights."""
    goals = list(dict.fromkeys((line.probability, line.goal) for line in lines))
    head = " | ".join(f"{goal.train:,} (p = {probability:g})" for probability, goal in goals)
    rows = [f"| attack | n | right at the end | shift | {head} | seconds, p = {goals[1][0]:g} | once |"]
    rows.append("|---|---|---|---|" + "---|" * (len(goals) + 2))
    for name in dict.fromkeys(line.attack for line in lines):
        mine = [line for line in lines if line.attack == name]
        cells = [name, str(mine[0].price.attempts), f"{mine[0].mean:.0f} ± {mine[0].deviation:.0f}"]
        cells.append(f"{mine[0].shift.mean:+.1f} ± {mine[0].shift.error:.1f}")
        cells += [render_price(line.price, line.price.work) for line in mine]
        cells.append(render_price(mine[1].price, mine[1].price.seconds))
        cells.append(f"{mine[0].once:g} courses" if mine[0].once else "–")
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows) + "\n"


def render_meanings(lines: Sequence[Line]) -> str:
    """Markdown: what each attack does."""
    meanings = {line.attack: line.meaning for line in lines}
    return "".join(f"- *{name}*: {meaning}\n" for name, meaning in meanings.items())


def render_price(price: Price, ratio: Ratio) -> str:
    """The ratio with its interval, or its lower bound; ~ where the shift told it."""
    mark = "" if price.is_counted else "~ "
    if math.isinf(ratio.high):
        return f"{mark}> {min(ratio.low, _TOO_MUCH):.3g}"
    return f"{mark}**{_render(ratio.value)}** ({_render(ratio.low)} – {_render(ratio.high)})"


_TOO_MUCH = 50


def _render(value: float) -> str:
    if value >= _TOO_MUCH:
        return f"> {_TOO_MUCH}"
    return f"{value:.0f}" if value >= 10 else f"{value:.2f}"
