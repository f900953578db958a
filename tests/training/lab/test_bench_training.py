"""The bench's training steps: what is compared is what the rows' names say."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch

from dataset_server.files import write_dataset_file
from dataset_server.importers import import_digits
from tests.training.samples import NETWORK, build_watermark
from training.lab import bench_training
from training.lab.bench_rows import Row
from training.lab.bench_steps import Ground, Plain, Unmarked
from training.twin import Twin


def test_unmarked_and_plain_weights_are_the_free_ones() -> None:
    nothing = build_watermark(0)
    generator = torch.Generator().manual_seed(0)
    plain, unmarked = (kind(NETWORK, nothing, generator, 0.15, 0.0) for kind in (Plain, Unmarked))
    assert plain.compute_weights() is plain.free
    assert torch.allclose(unmarked.compute_weights(), unmarked.free)
    values = torch.tensor([-1.0, 0.001, 1.5])
    assert plain.activate(values).tolist() == pytest.approx([0, 0.001, 1.5])
    assert unmarked.activate(values).tolist() == [0, 0, 1]


@pytest.mark.parametrize("kind", [Twin, Unmarked, Plain])
def test_steps_of_every_kind_count_right_answers(kind: type[Twin]) -> None:
    step = Ground(NETWORK, 9_500, 16, "cpu").build_step(kind)
    right = [int(step()) for _ in range(10)]
    # By chance alone one in ten: neither nothing nor everything.
    assert all(0 <= count <= 16 for count in right)
    assert 0 < sum(right) < 160


def test_rows_are_measured_in_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dataset_file(tmp_path / "digits.dataset", import_digits())
    monkeypatch.setattr(bench_training, "_TURNS", 3)
    monkeypatch.setattr(bench_training, "_COLD_STARTS", 1)
    monkeypatch.setattr(bench_training, "_run_ranks", lambda device, batch: [[100.0, 150.0]])
    monkeypatch.setattr(bench_training, "PAPER", NETWORK)
    path = tmp_path / "digits.dataset"
    options = Namespace(device="cpu", threads=1, data=path, cifar10=path)
    rows = {row.name: row for row in bench_training.measure_training(options)}
    assert [len(row.values) for row in rows.values()] == [3] * 9 + [1] * 3 + [3] * 2
    assert rows["paper's network: 2 processes / 1"] == Row("paper's network: 2 processes / 1", "x", (1.5,))
    assert all(value > 0 for row in rows.values() for value in row.values)
    assert min(rows["CIFAR-10 at 70 % frozen, 2 epochs: test accuracy"].values) > 0.2


def test_without_cifar10_its_rows_are_empty() -> None:
    rows = bench_training._measure_accuracy(Namespace(cifar10=None, device="cpu"))
    assert [row.values for row in rows] == [(), ()]


def test_a_cold_start_that_fails_is_told() -> None:
    with pytest.raises(ValueError, match="failed"):
        bench_training._measure_first_line([sys.executable, "-c", ""])
