"""The lab's commands as a user types them, and the stored ladder against this machine."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from consensus.dataset import Dataset, decode_dataset_spec
from consensus.task import Task, check_task
from dataset_server.files import write_dataset_file
from dataset_server.importers import import_digits
from tests.training.samples import make_trace
from training.attempt import TrainingData
from training.dataset_file import read_dataset_file
from training.lab import main, parse
from training.lab.calibrate import collect
from training.lab.check import check_ladder, choose_rung
from training.lab.ladder import Sizes, build_ladder
from training.lab.lines import append_lines
from training.lab.traces import Trace, digest_recipe, read_traces
from training.probe import compute_cost
from training.rate import measure_rate
from training.tasks import TASK_NAMES, decode_task_file, load_recipe, load_task, load_task_file

ROOT = Path(__file__).parents[3]
LOOK = compute_cost(load_task_file("digits").network, 1_297)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lab") / "digits.dataset"
    write_dataset_file(path, import_digits())
    return path


@pytest.mark.timeout(400)
def test_stored_ladder_holds_here(digits: Dataset, digits_data: TrainingData) -> None:
    """Fresh nonces each time; a correct ladder fails less than once in 1,000 runs (test_statistics)."""
    task = load_task("digits", digits.spec)
    result = check_ladder(load_task_file("digits"), task, digits_data, attempts=60)
    assert result.holds, result


def test_check_tells_what_it_found(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", "--task", "digits", "--data", str(file), "--check", "--attempts", "3"]) in (
        0,
        1,
    )
    lines = capsys.readouterr().out.splitlines()
    assert str(load_task_file("digits").rungs[choose_rung(load_task_file("digits"))]) == lines[0]
    assert "of 3" in lines[2]


def test_file_of_one_dataset_is_read(file: Path, digits: Dataset) -> None:
    assert read_dataset_file(file).spec == digits.spec
    assert decode_dataset_spec(file.read_bytes()[:80]) == digits.spec


@pytest.mark.parametrize("damage", [b"", b"\xff" * 500])
def test_rejects_a_file_that_is_no_dataset(
    damage: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "wrong.dataset"
    path.write_bytes(damage)
    assert main(["calibrate", "--task", "digits", "--data", str(path), "--check"]) == 1
    assert capsys.readouterr().err.startswith("python -m training.lab: ")


def test_missing_file_is_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", "--task", "digits", "--data", str(tmp_path / "none"), "--check"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    ("stretches", "line"),
    [
        (["9800:640:1"], "1 courses are too few for stretch 1 of 1, which needs 8 at least"),
        (["9500:640:14", "9800:640:8"], "14 courses are too few for stretch 1 of 2, which needs 15 at least"),
        (["9800:16:100"], "16 samples are less than a batch: 64 are needed"),
    ],
)
def test_what_makes_no_ladder_is_told_before_it_is_measured(
    stretches: list[str], line: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--stretch", *stretches, "--rows", str(tmp_path / "rows.jsonl")]
    assert main(["calibrate", "--task", "digits", "--data", str(file), *words]) == 1
    assert capsys.readouterr().err == f"python -m training.lab: {line}\n"
    assert not (tmp_path / "rows.jsonl").exists()


@pytest.mark.parametrize("words", [[], ["calibrate"], ["calibrate", "--task", "letters"]])
def test_wrong_words_are_a_usage_error(words: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2


def test_rows_become_a_task_file(file: Path, tmp_path: Path, digits: Dataset) -> None:
    rows, out, page = (tmp_path / name for name in ("rows.jsonl", "task.json", "task.md"))
    look = compute_cost(load_task_file("digits").network, digits.spec.n_train)
    made_up = [make_trace(9_500, seed, 1_210, 15) for seed in range(400)]
    traces = [
        replace(trace, samples=640, multiply_accumulates=(look, *trace.multiply_accumulates[1:]))
        for trace in made_up
    ]
    traces[300:] = [replace(trace, machine="another", date="2026-01-02") for trace in traces[300:]]
    list(append_lines(rows, traces, Trace))
    words = ["--stretch", "9500:640:400", "--rows", str(rows), "--out", str(out), "--page", str(page)]
    assert main(["calibrate", "--task", "digits", "--data", str(file), *words]) == 0
    task_file = decode_task_file(json.loads(out.read_text()))
    check_task(Task(digits.spec.dataset_id, task_file.network, task_file.rungs), digits.spec)
    assert len(task_file.measurements) == len(task_file.rungs)
    assert page.read_text().count("\n| 95 % |") == 1 + len(task_file.rungs)
    origin = [task_file.measured[name] for name in ("machine", "date", "dataset")]
    assert origin == [
        "a machine (300 courses); another (100 courses)",
        "2026-01-01 to 2026-01-02",
        digits.spec.dataset_id.hex(),
    ]


@pytest.mark.parametrize("name", TASK_NAMES)
def test_shipped_ladder_and_rows_are_of_the_shipped_recipe(name: str) -> None:
    file = load_task_file(name)
    assert file.measured["recipe"] == digest_recipe(file.recipe)
    traces = read_traces(ROOT / "docs" / "lab" / f"{name}-rows.jsonl")
    assert {trace.recipe for trace in traces} == {file.measured["recipe"]}
    counted = [plan.samples for plan in file.recipe.plans]
    assert {trace.samples for trace in traces} >= set(counted)


@pytest.mark.parametrize(
    ("trace", "reason"),
    [
        (make_trace(9_500, 0, 1_210, 15), "another network"),
        (
            replace(make_trace(9_500, 0, 1_210, 15), recipe="0123abcd", multiply_accumulates=(LOOK,)),
            "another recipe",
        ),
    ],
)
def test_courses_of_another_task_are_refused(
    trace: Trace, reason: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "rows.jsonl"
    list(append_lines(rows, [trace], Trace))
    words = ["calibrate", "--task", "digits", "--data", str(file), "--rows", str(rows)]
    assert main([*words, "--stretch", "9500:640:400"]) == 1
    assert reason in capsys.readouterr().err
    assert len(read_traces(rows)) == 1


@pytest.mark.parametrize(
    "words", [["--threads", "0"], ["--attempts", "x"], ["--device", "cude"], ["--device", "cuda:99"]]
)
def test_words_that_name_nothing_are_a_usage_error(words: list[str], file: Path) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["calibrate", "--task", "digits", "--data", str(file), "--check", *words])
    assert caught.value.code == 2


def test_shipped_ladder_is_what_its_rows_say(file: Path, tmp_path: Path) -> None:
    """The command that the task file names, on the rows of the repository, writes the task file."""
    measured = load_task_file("digits").measured
    words = measured["command"].split()[2:]
    rows = words.index("--rows") + 1
    words[rows] = str(ROOT / words[rows])
    out = tmp_path / "task.json"
    outputs = ["--out", str(out), "--page", str(tmp_path / "task.md")]
    assert main([*words, "--data", str(file), *outputs]) == 0
    written, shipped = decode_task_file(json.loads(out.read_text())), load_task_file("digits")
    assert (written.rungs, written.recipe) == (shipped.rungs, shipped.recipe)
    # Their intervals come from floats that processors may round apart.
    counts = [[(m.attempts, m.successes) for m in task.measurements] for task in (written, shipped)]
    assert counts[0] == counts[1]


@pytest.mark.parametrize(
    ("name", "records"), [("fashion-mnist", (60_000, 10_000)), ("cifar10", (50_000, 10_000))]
)
def test_ladders_of_other_images_are_what_their_rows_say(name: str, records: tuple[int, int]) -> None:
    file = load_task_file(name)
    options = parse(file.measured["command"].split()[2:], data=Path("of images"))
    stretches = collect(options.stretch, file.recipe, read_traces(ROOT / options.rows))
    sizes = Sizes(records[0], sum(records) * file.network.multiply_accumulates)
    plans, ladder = build_ladder(stretches, sizes, options.foot)
    assert tuple(step.rung for step in ladder) == file.rungs
    assert plans == file.recipe.plans


def test_rate_is_measured_on_real_attempts(digits: Dataset, digits_data: TrainingData) -> None:
    task, recipe = load_task("digits", digits.spec), load_recipe("digits")
    assert measure_rate(task, digits_data, recipe, task.rungs[-1], seconds=0.5) > 0


def test_lab_runs_on_torch_and_numpy_alone(file: Path) -> None:
    """As on a bare machine with a GPU: no package of the node's is there."""
    node = "fastapi", "sqlalchemy", "cryptography", "httpx", "pydantic", "typer", "rich"
    blocked = (*node, "sklearn", "torchvision", "matplotlib")
    code = (
        f"import sys; [sys.modules.__setitem__(name, None) for name in {blocked!r}];"
        "from training.lab import main;"
        f"words = ['--task', 'digits', '--data', {str(file)!r}, '--check', '--attempts', '1'];"
        "sys.exit(main(['calibrate', *words]))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert run.returncode in (0, 1), run.stderr
    assert "of 1," in run.stdout
