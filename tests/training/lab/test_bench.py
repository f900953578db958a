"""The bench: its rows are kept and found again, and its table says what was measured and what never was."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from consensus.network import NetworkSpec
from dataset_server.files import write_dataset_file
from dataset_server.importers import import_digits
from node.devnet.creation import SLOW_TARGET_INTERVAL_SECONDS
from training import evaluator
from training.evaluator import compute_logits_in_int8
from training.lab import bench, bench_verification, parse
from training.lab.bench_claims import draw_network, draw_pixels
from training.lab.bench_forward import ForwardPass
from training.lab.bench_rows import (
    Goal,
    RecordedRow,
    Row,
    append_rows,
    describe_origin,
    find_latest,
    read_rows,
)
from training.lab.bench_verification import measure_verification

ROW = Row("speed", "x", (0.9, 0.5, 0.7), Goal("<=", 0.6))


def build_options(tmp_path: Path, *words: str) -> argparse.Namespace:
    return parse(["bench", "--rows", str(tmp_path / "rows.jsonl"), *words], data=tmp_path / "data")


def test_a_goal_is_met_by_the_median() -> None:
    assert ROW.value == 0.7
    assert ROW.is_met is False
    assert replace(ROW, goal=Goal(">=", 0.7)).is_met is True
    assert replace(ROW, goal=None).is_met is None
    assert replace(ROW, values=()).is_met is None


def test_rows_come_back_and_an_accelerators_last_one_is_found(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    assert read_rows(path) == []
    here = describe_origin("cpu", 1, "bench")
    there = replace(here, device="H200")
    kept = [
        RecordedRow("evaluation", ROW, there),
        RecordedRow("evaluation", replace(ROW, values=(0.4,), goal=None), there),
        RecordedRow("evaluation", ROW, here),
        RecordedRow("training", ROW, there),
    ]
    append_rows(path, kept[:1])
    with path.open("a", encoding="utf-8") as file:
        file.write('{"section":"evalua')
    assert read_rows(path) == kept[:1]
    append_rows(path, kept[1:])
    assert read_rows(path) == kept
    assert find_latest(kept, "evaluation", "speed") == kept[1]
    assert find_latest(kept, "evaluation", "memory") is None


def test_table_tells_goals_missed_and_what_was_never_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(options: argparse.Namespace) -> Iterator[Row]:
        yield ROW
        yield Row("memory", "MiB", (1_234.5,))
        yield Row("on a GPU", "s", ())

    monkeypatch.setitem(bench.SECTIONS, "evaluation", bench.Section("Evaluation", measure))
    options = build_options(tmp_path, "--sections", "evaluation", "--record", str(tmp_path / "new.jsonl"))
    write_dataset_file(options.data, import_digits())
    there = replace(describe_origin("cpu", 1, "bench"), device="H200")
    older, rows = replace(there, device="H100", date="2026-01-01"), [ROW, replace(ROW, values=(0.25,))]
    kept = [RecordedRow("evaluation", row, origin) for row, origin in zip(rows, (older, there), strict=True)]
    append_rows(options.rows, [*kept, RecordedRow("training", ROW, older)])
    assert bench.run(options) == 0
    printed = capsys.readouterr().out
    assert [line.split(";")[0] for line in printed.splitlines() if line.startswith("GPU")] == [
        "GPU, evaluation: H200",
        "GPU, training: H100",
    ]
    lines = [line.split() for line in printed.splitlines()]
    assert ["speed", "0.7", "x", "(0.5–0.9)", "3", "<=", "0.6", "NO", "0.25", "x"] in lines
    assert ["memory", "1,234", "MiB", "1", "never", "run"] in lines
    assert ["on", "a", "GPU", "never", "run", "0", "never", "run"] in lines
    assert [kept.row.name for kept in read_rows(tmp_path / "new.jsonl")] == ["speed", "memory", "on a GPU"]


def test_missing_data_is_told_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "SECTIONS", {})
    with pytest.raises(FileNotFoundError):
        bench.run(build_options(tmp_path))
    assert capsys.readouterr().out == ""


def test_another_dataset_than_cifar10_is_told_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = build_options(tmp_path)
    write_dataset_file(options.data, import_digits())
    options.cifar10 = options.data
    with pytest.raises(ValueError, match="--cifar10"):
        bench.run(options)
    assert capsys.readouterr().out == ""


def test_forward_pass_is_the_same_network_but_for_rounding() -> None:
    network = draw_network(NetworkSpec(c=3, h=8, w=8, classes=10, blocks=2, filters=8, hidden=16), 0)[2]
    pixels = torch.from_numpy(draw_pixels(network.spec, 200))
    exact = compute_logits_in_int8(network, pixels)
    floats = ForwardPass(network, pixels).compute_logits().double()
    for logit in range(10):
        both = torch.stack([exact[:, logit], floats[:, logit]])
        assert torch.corrcoef(both)[0, 1] > 0.8


def test_verification_rows_on_a_small_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = NetworkSpec(c=1, h=8, w=8, classes=10, blocks=2, filters=8, hidden=64)
    monkeypatch.setattr(bench_verification, "PAPER", small)
    monkeypatch.setattr(bench_verification, "_RATE_SECONDS", 0.05)
    monkeypatch.setattr(bench_verification, "_CIFAR10_RECORDS", 600)
    # A small network's records would all be looked at together.
    monkeypatch.setattr(evaluator, "_LOOK_WORK", 0)
    options = build_options(tmp_path, "--records", "2000")
    write_dataset_file(options.data, import_digits())
    rows = {row.name: row for row in measure_verification(options)}
    assert rows["false claim of 97 %, by a network that guesses: evaluated"].value < 0.5
    assert 0.9 < rows["false claim of 97 %, one record too many: evaluated"].value <= 1
    assert rows["mine / verify, digits' last rung"].is_met
    ratio = rows[f"interval of {SLOW_TARGET_INTERVAL_SECONDS} s / verify, CIFAR-10's task"]
    seconds = rows["verify, CIFAR-10's task"].values
    assert ratio.values == tuple(2 * SLOW_TARGET_INTERVAL_SECONDS / each for each in seconds)
