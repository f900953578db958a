"""The page of a measured ladder: what was measured, on what, and every rung, as tables to be read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import correlation, fmean, median, stdev

from training.lab.ladder import MIN_SUCCESSES, Stretch, count_least
from training.tasks import Measurement, TaskFile

_HEADINGS = (
    "| frozen | train target | eval floor | work (M) | successes / n | probability | 99 % interval "
    "| M an attempt | CV of cost |"
)


def render_page(name: str, file: TaskFile, stretches: Sequence[Stretch]) -> str:
    """Markdown; the stretches' traces are those that the file's ladder was built of."""
    return "\n".join(_render(name, file, stretches)) + "\n"


def _render(name: str, file: TaskFile, stretches: Sequence[Stretch]) -> Iterator[str]:
    network, measured = file.network, file.measured
    works = [rung.work for rung in file.rungs]
    least = count_least(len(stretches[-1].traces))
    yield f"""# The {name} ladder

What a block of the task `{name}` costs, measured with the reference miner. This page is written by the command
that measures:

    {measured["command"]}

(beside it `--data FILE --out FILE --page FILE`: the dataset, the task file of `training/tasks`, this page)

| | |
|---|---|
| dataset | {measured["dataset"]} |
| network | {network.c}×{network.h}×{network.w}, {network.classes} classes, {network.blocks} blocks of {network.filters} filters, hidden {network.hidden}: {network.weight_count:,} weights, {network.multiply_accumulates:,} multiply-accumulates a record |
| machine | {measured["machine"]} |
| torch | {measured["torch"]} |
| date | {measured["date"]} |

A course is one network from the look at what its watermark promises to the end of the polish, never giving up; its header is the
freest of {file.recipe.headers}. Its checkpoints tell for every target whether an attempt would have met it and what it would have cost with the plan's
allowances. Each fifth of the courses is measured under allowances that the other four chose; what ships was chosen by all. The
rows keep seed, counts and multiply-accumulates at every checkpoint, machine and date. ± is one standard deviation over courses; the seconds are
those of machines that did other things beside, all together.

| frozen | samples | n | train records right at the end | eval records right | promise and end correlate by | cost of a course (M) | median seconds |
|---|---|---|---|---|---|---|---|"""
    for stretch in stretches:
        yield _render_stretch(stretch)
    yield f"""
## Rungs
Work is what an attempt costs on average over the probability that it succeeds, in million multiply-accumulates (three forward
passes for a sample trained; evaluation, polishing and recounts by what they multiply). The interval is Clopper and Pearson's.
The eval floor is what 19 in 20 of the networks that met the train target reached; where too few met it, the last floor measured
is kept. **Fitted** rungs were won by fewer than {MIN_SUCCESSES} courses, those given up not counted: their probability is that of a normal tail fitted to the ends of whole courses, at the targets that a quarter of them at most and {least} at least meet,
times the share of the winners that giving up leaves where {least} to {2 * least} are left; their work is an extrapolation. CV is the coefficient of variation of the cost to solution: 1 is a lottery without
memory, below 0.3 a race. An attempt is one header looked at; many are given up there, at a small part of a course's cost, and do
not succeed. Of networks trained side by side, one that wins leaves the others unused, which is not in the work. Rungs with a small CV are races, there for slow machines; the ladder goes from {works[0]:,} to {works[-1]:,} M,
counted up to {file.most_counted_work:,} M.

{_HEADINGS}
|{"---|" * (_HEADINGS.count("|") - 1)}"""
    for rung, measurement in zip(file.rungs, file.measurements, strict=True):
        yield (
            f"| {rung.frozen / 100:g} % | {rung.min_train_correct:,} | {rung.min_eval_correct:,} | {rung.work:,} "
            f"{_render_measurement(measurement)}"
        )


def _render_stretch(stretch: Stretch) -> str:
    train = [trace.train_correct[-1] for trace in stretch.traces]
    right = [trace.eval_correct[-1] for trace in stretch.traces]
    promised = [trace.shown[0] for trace in stretch.traces]
    cost = fmean(trace.multiply_accumulates[-1] for trace in stretch.traces) / 1e6
    seconds = median(trace.seconds for trace in stretch.traces)
    return (
        f"| {stretch.frozen / 100:g} % | {stretch.plan.samples:,} | {len(train)} "
        f"| {fmean(train):.1f} ± {stdev(train):.1f} | {fmean(right):.1f} ± {stdev(right):.1f} "
        f"| {_correlate(promised, train)} | {cost:,.0f} | {seconds:.1f} |"
    )


def _correlate(promised: Sequence[int], train: Sequence[int]) -> str:
    return f"{correlation(promised, train):.2f}" if len(set(promised)) > 1 < len(set(train)) else "–"


def _render_measurement(m: Measurement) -> str:
    interval = "fitted" if m.is_fitted else f"{m.low:.3f} – {m.high:.3f}"
    return (
        f"| {m.successes} / {m.attempts} | {m.probability:.3g} | {interval} "
        f"| {m.multiply_accumulates:,} | {m.variation:.2f} |"
    )
