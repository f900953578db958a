"""The figures' networks, watermarks, rows and tables, and the command on a few short runs."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from consensus.network import NetworkSpec
from dataset_server.files import write_dataset_file
from dataset_server.importers import import_digits
from tests.training.samples import NETWORK
from training.data import TrainingData
from training.evaluator import choose_compute_logits
from training.lab import main
from training.lab.bench_rows import Origin
from training.lab.figures import paper, protocol
from training.lab.figures.marks import DISTRIBUTIONS, GENERATORS, Mark, draw_mark, put_on_grid
from training.lab.figures.networks import PaperNetworks
from training.lab.figures.paper import Marks, Side
from training.lab.figures.pictures import draw_all
from training.lab.figures.protocol import Protocol
from training.lab.figures.reference import Curve, find_largest_difference, read_curve
from training.lab.figures.runs import DEFAULT, SCALES, Row, Run, append_rows, list_runs, read_rows
from training.lab.figures.tables import bundle_rows, summarise
from training.lab.figures.workers import group_runs
from training.tasks import load_recipe

CURVES = Path(__file__).parents[3] / "docs/lab/paper"
PAPER = NetworkSpec(c=3, h=32, w=32, classes=10, blocks=4, filters=32, hidden=128)
NOTHING = Mark(np.empty(0, np.int64), np.empty(0))
ORIGIN = Origin("cpu", "a machine, with a comma", 1, "2.0", "2026-01-01", "a command")


def build_run(seed: int = 0, kind: str = "honest", share: int = 70, variant: str = DEFAULT) -> Run:
    return Run("paper", kind, variant, share, seed, 50_000, 2, "7e8c6234")


def build_row(run: Run, *accuracies: float) -> Row:
    return Row(run, (1.0, 2.0), accuracies, 1.5, 500, ORIGIN)


def test_papers_network_has_the_papers_number_of_weights() -> None:
    """Its figure 2 watermarked 2,667 of them at a share of 0.1/49, and 130,692 at 0.1."""
    size = PaperNetworks(PAPER, [0]).size
    assert size == 1_306_922
    assert (int(size * 0.1 / 49), int(size * 0.1)) == (2_667, 130_692)


def test_networks_side_by_side_are_those_alone() -> None:
    images = torch.rand(7, 1, 8, 8)
    together = PaperNetworks(NETWORK, [3, 4])
    logits = together(images.repeat(1, 2, 1, 1).contiguous())
    for member, seed in enumerate([3, 4]):
        torch.manual_seed(0)
        alone = PaperNetworks(NETWORK, [seed])
        assert torch.equal(alone.values[0], together.values[member])
        alone.eval()
        together.eval()
        expected = together(images.repeat(1, 2, 1, 1))[member]
        paper.load_state(alone, 0, paper.export_state(together, member))
        torch.testing.assert_close(alone(images)[0], expected)
    assert logits.shape == (2, 7, 10)


def test_frozen_values_are_the_watermarks_after_training(digits_data: TrainingData) -> None:
    networks = PaperNetworks(NETWORK, [0, 1])
    marks = [draw_mark("paper", DEFAULT, seed, networks.size, networks.size // 2) for seed in (0, 1)]
    loaded = Marks.load(marks, [False, True], networks)
    before = networks.values.detach().clone()
    (accuracies,) = paper.train_epochs([Side(networks, loaded, [0, 1])], digits_data, epochs=1)
    for member, mark in enumerate(marks):
        frozen = networks.values.detach()[member, torch.from_numpy(mark.indices)]
        assert torch.equal(frozen, torch.from_numpy(mark.values).float())
    assert (networks.values != before).all(dim=0).float().mean() > 0.9
    assert len(accuracies) == 2


def test_watermark_during_backpropagation_is_the_one_after_it(digits_data: TrainingData) -> None:
    """Adam moves each weight by itself: once the watermark is there, when it is put back changes nothing."""
    trained = []
    for during in (False, True):
        torch.manual_seed(0)
        networks = PaperNetworks(NETWORK, [0])
        mark = draw_mark("paper", DEFAULT, 0, networks.size, networks.size // 2)
        marks = Marks.load([mark], [during], networks)
        marks.apply(networks)
        list(paper.train_epochs([Side(networks, marks, [0])], digits_data, epochs=1))
        trained.append(networks.values.detach().clone())
    assert torch.equal(*trained)


def test_estimated_statistics_are_those_of_the_records(digits_data: TrainingData) -> None:
    networks = PaperNetworks(NETWORK, [0])
    networks.means[0].fill_(9.0)
    paper.estimate_statistics(networks, digits_data.train)
    weights = networks.values[0, : 9 * NETWORK.filters].view(-1, 1, 3, 3)
    sums = torch.nn.functional.conv2d(digits_data.train.pixels.float() / 255, weights, padding=1)
    torch.testing.assert_close(networks.means[0], sums.mean((0, 2, 3)), atol=1e-2, rtol=1e-2)


def build_protocol(data: TrainingData) -> Protocol:
    compute_logits = choose_compute_logits("cpu")
    assert compute_logits is not None
    return Protocol(NETWORK, data, load_recipe("digits"), compute_logits)


def test_twins_statistics_are_those_of_the_records(digits_data: TrainingData) -> None:
    chain = build_protocol(digits_data)
    twin = chain.build_twin(NOTHING, 0, None)
    twin.means[0].fill_(9.0)
    chain.estimate_statistics(twin)
    weights = twin.compute_weights()[: 9 * NETWORK.filters].view(-1, 1, 3, 3)
    sums = torch.nn.functional.conv2d(digits_data.inputs, weights, padding=1)
    torch.testing.assert_close(twin.means[0], sums.mean((0, 2, 3)), atol=1e-2, rtol=1e-2)


def test_twin_starts_from_a_trained_one(digits_data: TrainingData) -> None:
    chain = build_protocol(digits_data)
    teacher = chain.build_twin(NOTHING, 0, None)
    accuracies = list(chain.train_epochs(teacher, 0, epochs=2))
    assert len(accuracies) == 2
    state = protocol.export_state(teacher)
    copy = chain.build_twin(NOTHING, 1, state)
    assert chain.evaluate(copy) == accuracies[-1]
    mark = draw_mark("protocol", DEFAULT, 0, NETWORK.weight_count, NETWORK.weight_count // 2)
    marked = chain.build_twin(mark, 1, state)
    free = marked.free_indices
    assert torch.equal(marked.free, teacher.free[free])
    assert np.array_equal(marked.export().weights[mark.indices], np.rint(mark.values * 127))


@pytest.mark.parametrize("generator", GENERATORS)
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_marks_have_their_distribution(generator: str, distribution: str) -> None:
    mark = GENERATORS[generator](5, 40_000, 20_000)
    values = DISTRIBUTIONS[distribution](mark.values)
    deviations = {"uniform": 3**-0.5, "two-point": 1.0, "two-point-narrow": 3**-0.5, "normal": 0.4397}
    assert np.abs(values).max() <= 1
    assert abs(values.mean()) < 0.03
    assert abs(values.std() - deviations[distribution]) < 0.01
    assert (np.diff(mark.indices) > 0).all()
    assert mark.indices[0] >= 0
    assert mark.indices[-1] < 40_000


def test_larger_marks_contain_smaller_ones() -> None:
    for mode in ("paper", "protocol"):
        small, large = (draw_mark(mode, DEFAULT, 1, 1_000, count) for count in (100, 500))
        assert set(small.indices) < set(large.indices)


def test_mark_on_the_grid_is_a_watermark() -> None:
    watermark = put_on_grid(draw_mark("protocol", "two-point", 0, 1_000, 500), 1_000)
    assert watermark.values.dtype == np.int8
    assert set(watermark.values) == {-127, 127}


def test_rows_survive_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    rows = [build_row(build_run(seed), 0.25, 0.5) for seed in range(3)]
    append_rows(path, rows[:1])
    append_rows(path, rows[1:2])
    with path.open("a") as file:
        file.write("paper,honest,def")
    assert read_rows(path) == rows[:2]
    append_rows(path, rows[2:])
    assert read_rows(path) == rows


def test_rows_of_a_missing_file_are_none(tmp_path: Path) -> None:
    assert read_rows(tmp_path / "none.csv") == []


def test_summary_tells_n_spread_and_the_lead() -> None:
    honest = [build_row(build_run(seed), 0.1, 0.2 + seed / 10) for seed in (0, 1, 2)]
    attack = [build_row(build_run(seed, "transfer"), 0.3, 0.3) for seed in (0, 1)]
    first, second = summarise(bundle_rows([*honest, *attack]), CURVES)
    assert (first.n, second.n) == (3, 2)
    assert [first.accuracies[-1], first.spread] == pytest.approx([0.3, 0.1])
    assert first.leads == ()
    assert second.leads[-1] == pytest.approx(0.05)
    assert second.difference is not None
    assert second.difference.compared == 2


def test_every_figure_is_drawn_beside_the_papers(tmp_path: Path) -> None:
    """Of one mode alone, so that the other's panels are empty."""
    runs = [build_run(), build_run(kind="transfer"), build_run(kind="applied"), build_run(variant="normal")]
    bundles = bundle_rows([build_row(run, 0.1, 0.2) for run in runs])
    names = {path.name for path in draw_all(tmp_path, "cifar10", bundles, CURVES)}
    assert names == {f"cifar10-{name}.png" for name in ("figure1", "figure2", "figure3", "ablations")}
    assert all((tmp_path / name).stat().st_size > 10_000 for name in names)


def test_runs_of_another_length_are_not_mixed() -> None:
    shorter = replace(build_run(1), epochs=1)
    bundles = bundle_rows([build_row(build_run(0), 0.1, 0.2), Row(shorter, (1.0,), (0.1,), 1.0, 500, ORIGIN)])
    assert [row.run for bundle in bundles.values() for row in bundle.rows] == [shorter]


def test_largest_difference_is_taken_where_the_paper_has_points() -> None:
    measured = Curve((0.5, 2.5), (0.0, 0.4))
    difference = find_largest_difference(measured, Curve((1.0, 2.0, 3.0), (0.1, 0.1, 0.9)))
    assert difference is not None
    assert (difference.point, difference.compared) == (2.0, 2)
    assert difference.size == pytest.approx(0.2)
    assert find_largest_difference(measured, Curve((3.0,), (0.1,))) is None


def test_papers_curves_are_whole() -> None:
    for kind, shares in (("honest", range(0, 100, 10)), ("transfer", range(40, 100, 10))):
        for share in shares:
            curve = read_curve(CURVES, kind, share)
            assert curve is not None
            assert (curve.points[0], curve.points[-1]) == (1, 100)
    applied = read_curve(CURVES, "applied", 0)
    assert applied is not None
    assert applied.points[-1] == pytest.approx(10)


@pytest.mark.parametrize("scale", SCALES)
def test_scales_start_with_what_others_need(scale: tuple[str, bool]) -> None:
    runs = list_runs(SCALES[scale], 1_000, ("paper", "protocol"), "7e8c6234")
    assert len(set(runs)) == len(runs)
    assert {run.teacher for run in runs} <= set(runs)
    bases = {
        (run.mode, run.seed, run.share) for run in runs if (run.kind, run.variant) == ("honest", DEFAULT)
    }
    assert all((run.mode, run.seed, run.share) in bases for run in runs)


def test_groups_hold_trainings_of_one_length() -> None:
    runs = [build_run(seed) for seed in range(3)]
    runs += [build_run(0, "applied"), replace(build_run(0), mode="protocol")]
    runs += [replace(build_run(0), mode="protocol", seed=1)]
    assert [len(group) for group in group_runs(runs, 2)] == [2, 1, 1, 1, 1]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("figures") / "digits.dataset"
    write_dataset_file(path, import_digits())
    return path


def test_command_measures_once_and_draws_from_rows(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--task", "digits", "--data", str(file), "--quick", "--out", str(tmp_path)]
    short = ["--epochs", "1", "--seeds", "1", "--shares", "40", "--processes", "1"]
    assert main(["figures", *words, *short]) == 0
    rows = read_rows(tmp_path / "digits-rows.csv")
    assert {(row.run.mode, row.run.kind) for row in rows} == {
        (mode, kind) for mode in ("paper", "protocol") for kind in ("honest", "transfer", "applied")
    }
    capsys.readouterr()
    assert main(["figures", *words, *short]) == 0
    assert "0 to do" in capsys.readouterr().out
    assert read_rows(tmp_path / "digits-rows.csv") == rows
    assert (tmp_path / "digits-summary.csv").read_text().count("\n") > 10


def test_rows_of_another_dataset_are_no_runs_of_this_one(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = build_row(replace(build_run(), dataset="f2853bcc"), 0.1, 0.2)
    append_rows(tmp_path / "digits-rows.csv", [other])
    words = ["--task", "digits", "--data", str(file), "--quick", "--out", str(tmp_path)]
    assert main(["figures", *words]) == 1
    assert "has rows of another dataset: f2853bcc, not 7e8c6234" in capsys.readouterr().err
    assert read_rows(tmp_path / "digits-rows.csv") == [other]


def test_a_file_of_something_else_is_refused_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "digits-rows.csv"
    append_rows(path, [build_row(build_run(), 0.5, 0.6)])
    header = path.read_text("utf-8").splitlines()[0]
    for text in ("my only notes\n", "a,b\n1,2\n", f"{header}\npaper,honest\n"):
        path.write_text(text, "utf-8")
        with pytest.raises(ValueError, match=r"digits-rows\.csv is no file of this command"):
            read_rows(path)


def test_no_matplotlib_is_one_clear_line(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    append_rows(tmp_path / "digits-rows.csv", [build_row(build_run(0), 0.1, 0.2)])
    words = ["--task", "digits", "--data", str(file), "--draw-only", "--out", str(tmp_path)]
    assert main(["figures", *words]) == 0
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert (tmp_path / "digits-summary.csv").exists()
    assert list(tmp_path.glob("*.png")) == []


def test_rejects_another_tasks_dataset(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--task", "cifar10", "--data", str(file), "--quick", "--out", str(tmp_path)]
    assert main(["figures", *words]) == 1
    assert "--data FILE" in capsys.readouterr().err
