"""The search of recipes: rows that resume, variants that train and keep the watermark."""

from __future__ import annotations

import csv
from argparse import Namespace
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dataset_server.files import write_dataset_file
from dataset_server.importers import import_digits
from tests.training.samples import NETWORK, build_watermark
from training.data import TrainingData
from training.dataset_file import read_dataset_file
from training.lab import main, parse, recipes
from training.lab.muon import orthogonalise
from training.lab.recipes import VARIANTS, Row, append_row, measure_all, read_rows, render_table
from training.lab.variants import Variant, compute_share, train_variant
from training.twin import Twin

_SMALL = ["--blocks", "2", "--filters", "4", "--hidden", "16", "--frozen", "9000", "--samples", "640"]


ROW = Row("a", "7e8c6234", 2, 4, 16, 9_000, 640, 0, 0.5, 250, 500, 1.0, "cpu", 1, "here", "2", "2026-01-01")


def _parse(tmp_path: Path, *words: str) -> Namespace:
    data = tmp_path / "digits.dataset"
    if not data.exists():
        write_dataset_file(data, import_digits())
    return parse(["recipes", "--data", str(data), "--rows", str(tmp_path / "rows.csv"), *_SMALL, *words])


def test_rows_are_written_once_and_read_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert recipes.run(_parse(tmp_path, "--variants", "base", "muon 0.02")) == 0
    assert "| muon 0.02 | 1 |" in capsys.readouterr().out
    options = _parse(tmp_path, "--variants", "base", "--seeds", "0", "1")
    fresh = list(measure_all(options, read_dataset_file(options.data)))
    assert [(row.name, row.seed) for row in fresh] == [("base", 1)]
    rows = read_rows(tmp_path / "rows.csv")
    assert [(row.name, row.seed) for row in rows] == [("base", 0), ("muon 0.02", 0), ("base", 1)]
    assert rows[-1] == fresh[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["digits.dataset", "rows.csv"]
    assert 0 < rows[0].eval_correct <= rows[0].n_eval == 500


def test_rows_of_another_dataset_are_neither_reused_nor_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = _parse(tmp_path, "--variants", "base")
    other = replace(ROW, name="base", dataset="f2853bcc")
    append_row(options.rows, other)
    assert recipes.run(options) == 0
    assert "| base | 1 |" in capsys.readouterr().out
    kept, measured = read_rows(options.rows)
    assert (kept, measured.dataset) == (other, "7e8c6234")


@pytest.mark.parametrize(
    "text", ["my only notes\n", "a,b\n1,2\n", "{header}\nx\n", "{header}\n{row},more\n", '{header}\n"{row}\n']
)
def test_a_file_of_something_else_is_refused_and_stays(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    append_row(tmp_path / "own.csv", ROW)
    header, row = (tmp_path / "own.csv").read_text("utf-8").splitlines()
    rows = tmp_path / "rows.csv"
    rows.write_text(text.format(header=header, row=row), "utf-8")
    before = rows.read_bytes()
    options = _parse(tmp_path, "--variants", "base")
    assert main(["recipes", "--data", str(options.data), "--rows", str(rows), *_SMALL]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{rows} is no file of this command" in line
    with pytest.raises(ValueError, match="is no file of this command"):
        append_row(rows, ROW)
    assert rows.read_bytes() == before


def test_a_kill_leaves_the_rows_of_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append_row(tmp_path / "rows.csv", ROW)

    def write_and_die(writer: csv.DictWriter[str], rows: Iterable[dict[str, object]]) -> None:
        writer.writerow(next(iter(rows)))
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(csv.DictWriter, "writerows", write_and_die)
        with pytest.raises(KeyboardInterrupt):
            append_row(tmp_path / "rows.csv", replace(ROW, seed=1))
    assert read_rows(tmp_path / "rows.csv") == [ROW]
    append_row(tmp_path / "rows.csv", replace(ROW, seed=1))
    assert read_rows(tmp_path / "rows.csv") == [ROW, replace(ROW, seed=1)]


@pytest.mark.parametrize(
    "variant",
    [
        VARIANTS["muon 0.02"],
        VARIANTS["sgd 10"],
        Variant(flip=True, reach=1, averaging=0.9, schedule="cosine", initial_scale=0.3),
    ],
)
def test_variants_train_and_keep_the_watermark(variant: Variant, digits_data: TrainingData) -> None:
    generator, watermark = torch.Generator().manual_seed(0), build_watermark(9_000)
    twin = Twin(NETWORK, watermark, generator, variant.gain, variant.shift)
    before = twin.free.detach().clone()
    right = list(train_variant(twin, digits_data, variant, 2_560, generator))
    assert len(right) == 40
    assert int(torch.stack(right[-5:]).sum()) > 2 * int(torch.stack(right[:5]).sum())
    assert not torch.equal(twin.free, before)
    assert (twin.export().weights[watermark.indices] == watermark.values).all()


@pytest.mark.parametrize("shape", [(16, 16), (8, 40), (40, 8)])
def test_orthogonalised_matrix_has_singular_values_near_one(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalise(matrix))
    assert 0.4 < float(values.min()) <= float(values.max()) < 1.3


def test_schedules_rise_to_the_peak_and_fall_as_named() -> None:
    base = Variant(warm_up=0.2)
    for name, half_way, end in (("linear", 0.5, 0.0), ("cosine", 0.5, 0.0), ("flat", 1.0, 1.0)):
        variant = replace(base, schedule=name)
        shares = [compute_share(progress, variant) for progress in (0.0, 0.1, 0.2, 0.6, 1.0)]
        assert shares == pytest.approx([0, 0.5, 1, half_way, end])


def test_table_puts_the_best_first_with_its_spread() -> None:
    rows = [ROW, replace(ROW, seed=1, eval_correct=260), replace(ROW, name="b", eval_correct=300)]
    lines = render_table(rows).splitlines()
    assert lines[2] == "| b | 1 | 60.00% |  | 1 |"
    assert lines[3] == "| a | 2 | 51.00% | 50.00% – 52.00% | 1 |"
