"""Simulated intervals: lotteries cost what the ladder says, and a steady chain keeps its interval."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from consensus.dataset import Dataset
from dataset_server.files import write_dataset_file
from dataset_server.importers import import_digits
from training.lab import main
from training.lab.fairness import SHARES
from training.lab.intervals import SCENARIOS, Scenario, build_params, simulate
from training.lab.lottery import build_lotteries
from training.lab.traces import read_traces
from training.tasks import load_task_file

ROWS = Path(__file__).parents[3] / "docs" / "lab" / "digits-rows.jsonl"
POWER = 5_000.0


def test_lottery_costs_the_work_of_its_rung(digits: Dataset) -> None:
    file = load_task_file("digits")
    get_lottery = build_lotteries(file, read_traces(ROWS), digits.spec)
    counted = [rung for rung, m in zip(file.rungs, file.measurements, strict=True) if not m.is_fitted]
    random = np.random.default_rng(0)
    for rung in (counted[0], counted[len(counted) // 2], counted[-1]):
        lottery = get_lottery(rung)
        drawn = np.mean([lottery.draw(random).sum() for _ in range(3_000)])
        assert drawn == pytest.approx(rung.work, rel=0.1)


def test_a_shorter_course_costs_less_and_wins_less(digits: Dataset) -> None:
    file = load_task_file("digits")
    get_lottery = build_lotteries(file, read_traces(ROWS), digits.spec)
    longest = file.recipe.plans[-1]
    shortest = next(plan for plan in file.recipe.plans if plan.most_work > longest.min_work)
    rungs = [rung for rung in file.rungs if longest.min_work <= rung.work <= shortest.most_work]
    for rung in (rungs[0], rungs[-1]):
        own, same = get_lottery(rung), get_lottery(rung, longest.samples)
        assert (same.probability, same.won.tolist()) == (own.probability, own.won.tolist())
        for most in (longest.samples - 1, shortest.samples):
            shorter = get_lottery(rung, most)
            assert 0 < shorter.probability <= own.probability
            assert shorter.won.mean() < own.won.mean()
            assert shorter.lost.mean() < own.lost.mean()
            mean = (1 - shorter.kept) * shorter.look + (
                shorter.kept - shorter.probability
            ) * shorter.lost.mean()
            mean += shorter.probability * shorter.won.mean()
            assert mean / shorter.probability <= 2.1 * rung.work


def test_courses_that_are_not_the_ladders_are_refused(digits: Dataset) -> None:
    file, traces = load_task_file("digits"), read_traces(ROWS)
    with pytest.raises(ValueError, match="another network"):
        build_lotteries(load_task_file("cifar10"), traces, digits.spec)
    shortest = [trace for trace in traces if trace.samples == file.recipe.plans[0].samples]
    with pytest.raises(ValueError, match="was measured"):
        build_lotteries(file, shortest, digits.spec)(file.rungs[-1])


def test_steady_miners_keep_the_interval(digits: Dataset) -> None:
    get_lottery = build_lotteries(load_task_file("digits"), read_traces(ROWS), digits.spec)
    params, random = build_params("digits", digits.spec, POWER, 20), np.random.default_rng(1)
    runs = [simulate(params, SCENARIOS[0], POWER, get_lottery, random) for _ in range(40)]
    assert np.mean(runs) == pytest.approx(params.target_interval, rel=0.2)


def test_a_chain_without_miners_thaws(digits: Dataset) -> None:
    get_lottery = build_lotteries(load_task_file("digits"), read_traces(ROWS), digits.spec)
    params, random = build_params("digits", digits.spec, POWER, 20), np.random.default_rng(2)
    weak = Scenario("one in a thousand stays", (1.0,), (0.001,))
    first = [simulate(params, weak, POWER, get_lottery, random)[0] for _ in range(20)]
    # Uneased, the first block alone would take a thousand intervals.
    assert np.mean(first) < 100 * params.target_interval


def test_command_writes_csv_and_page(tmp_path: Path) -> None:
    data, out, page = (tmp_path / name for name in ("digits.dataset", "intervals.csv", "intervals.md"))
    write_dataset_file(data, import_digits())
    words = ["--data", str(data), "--rows", str(ROWS), "--power", "5000", "--runs", "2"]
    assert main(["intervals", "--task", "digits", *words, "--out", str(out), "--page", str(page)]) == 0
    assert len(out.read_text().splitlines()) == 1 + 80 * len(SCENARIOS)
    lines = page.read_text().splitlines()
    assert sum(line.startswith("| 5,000 |") for line in lines) == len(SCENARIOS)
    # Behind the title of the second table: that of the rung just below.
    assert sum(line.startswith("| 4,") for line in lines) == len(SHARES)
