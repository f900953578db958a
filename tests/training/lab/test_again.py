"""Headers of near misses that are tried again: which they are, what they cost, and a real one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from consensus.task import Rung
from dataset_server.files import write_dataset_file
from dataset_server.importers import import_digits
from tests.training.samples import make_trace
from training.lab import main
from training.lab.again import NearMiss, Side, find_near, group_again, price_rung
from training.lab.calibrate import Order, build_plan
from training.lab.ladder import Sizes, Stretch
from training.lab.traces import SEEDS_APART, Trace, read_traces
from training.tasks import load_task_file

SIZES = Sizes(n_train=1_297, recount_cost=0)
RECIPE = load_task_file("digits").recipe
RUNG = Rung(9_800, 1_210, 0, 100)
ROWS = Path("docs/lab/digits-rows.jsonl")


def _make_trace(seed: int, mean: float, deviation: float, samples: int) -> Trace:
    return replace(make_trace(9_800, seed, mean, deviation), samples=samples)


def _build_side(samples: int, mean: float) -> Side:
    traces = tuple(_make_trace(seed, mean, 15, samples) for seed in range(200))
    return Side.build(Stretch(9_800, build_plan(Order(9_800, samples, 0), RECIPE), traces), SIZES)


def test_courses_go_on_until_one_wins() -> None:
    assert NearMiss(0.0, 10.0).repeat(3) == (0.0, 30.0)
    assert NearMiss(1.0, 10.0).repeat(3) == (1.0, 10.0)
    assert NearMiss(0.5, 10.0).repeat(2) == (0.75, 15.0)


def test_near_misses_end_short_of_the_target_by_little() -> None:
    side = _build_side(20_752, 1_180)
    ends = {trace.seed: trace.shown[-1] for trace in side.stretch.traces}
    near = find_near(side, RUNG, 10)
    assert near
    assert all(1_200 <= ends[seed] < 1_210 for seed in near)
    assert set(near) < set(find_near(side, RUNG, 30))


def test_price_falls_with_the_chance_of_another_course() -> None:
    first, second = _build_side(20_752, 1_180), _build_side(83_008, 1_190)
    prices = []
    for end in (1_100, 1_250):
        near = find_near(first, RUNG, 10)
        again = {seed: [_make_trace(seed + SEEDS_APART, end, 0, 83_008)] for seed in near}
        price = price_rung(RUNG, first, second, again, SIZES, 10)
        assert price is not None
        assert {chance.wins for chance in price.near} == {float(end > 1_210)}
        assert all(low <= middle <= high for middle, low, high in price.ratios)
        prices.append(price.ratios[0][0])
    assert prices[1] < prices[0]
    assert price_rung(RUNG, first, second, {}, SIZES, 10) is None


def test_courses_are_grouped_by_their_header() -> None:
    seeds = [3 + SEEDS_APART, 4, 3]
    grouped = group_again([_make_trace(seed, 1_200, 0, 83_008) for seed in seeds])
    assert {header: [trace.seed for trace in traces] for header, traces in grouped.items()} == {
        3: [3 + SEEDS_APART, 3],
        4: [4],
    }


def test_a_near_miss_is_tried_again_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, calibration, rows = (tmp_path / name for name in ("digits.dataset", "some.jsonl", "again.jsonl"))
    write_dataset_file(data, import_digits())
    lines = [line for line in ROWS.read_text("utf-8").splitlines() if _is_chosen(json.loads(line))]
    calibration.write_text("\n".join(lines) + "\n", "utf-8")
    words = ["again", "--task", "digits", "--data", str(data), "--first", "20752", "--second", "83008"]
    words += ["--courses", "1", "--miss", "0.004", "--calibration", str(calibration), "--rows", str(rows)]
    assert main([*words, "--processes", "1"]) == 0
    told = capsys.readouterr().out
    assert "| 1,200 | 38,311 |" in told
    again = read_traces(rows)
    assert again
    assert {(trace.samples, trace.seed // SEEDS_APART) for trace in again} == {(83_008, 1)}
    assert main([*words, "--processes", "1"]) == 0
    assert read_traces(rows) == again


def _is_chosen(row: dict[str, int]) -> bool:
    return row["frozen"] == 9_800 and row["samples"] in (20_752, 83_008) and row["seed"] < 120


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--second", "166016"], "no course of 166016 samples"),
        (["--second", "10376"], "mines no rung by 10376 samples"),
        (["--second", "83008", "--courses", "0", "--miss", "1e-9"], "no header came near"),
        (["--second", "83008", "--calibration", "nowhere.jsonl"], "there is no file nowhere.jsonl"),
    ],
)
def test_words_that_do_not_fit_are_one_clear_line(
    words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "digits.dataset"
    write_dataset_file(path, import_digits())
    rows = str(tmp_path / "rows.jsonl")
    assert (
        main(["again", "--task", "digits", "--data", str(path), "--rows", rows, "--first", "20752", *words])
        == 1
    )
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line


@pytest.mark.parametrize("miss", ["3", "0", "nan"])
def test_a_miss_is_a_share(miss: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["again", "--task", "digits", "--data", str(tmp_path), "--first", "20752", "--second", "83008"]
    with pytest.raises(SystemExit):
        main([*words, "--miss", miss])
    assert "argument --miss: " in capsys.readouterr().err
