"""The numbers that the lab's commands take: each in its range, and nothing else."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from dataset_server.files import write_dataset_file
from dataset_server.importers import import_digits
from training.lab import main
from training.lab.inputs import check_samples, parse_count, parse_positive, parse_seed, parse_share


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lab") / "digits.dataset"
    write_dataset_file(path, import_digits())
    return path


@pytest.mark.parametrize("text", ["0", "-1", "", "x", "1.5", "1e3", " 1", "9" * 5_000])
def test_rejects_what_is_no_count(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"is no number from 1$"):
        parse_count(text)


def test_numbers_lie_in_their_range() -> None:
    assert (parse_count("1"), parse_count("60000")) == (1, 60_000)
    assert (parse_share("0"), parse_share("10000"), parse_seed("0")) == (0, 10_000, 0)
    with pytest.raises(argparse.ArgumentTypeError, match="is no number from 0 to 10,000"):
        parse_share("10001")


@pytest.mark.parametrize("text", ["0", "-5", "inf", "nan", "1e999", "", "x"])
def test_rejects_what_is_not_positive_and_finite(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is no finite number above 0"):
        parse_positive(text)


def test_a_positive_number_may_be_broken() -> None:
    assert parse_positive("2.5e3") == 2_500.0


def test_a_course_takes_a_batch_at_least() -> None:
    check_samples(64, 64)
    with pytest.raises(ValueError, match="63 samples are less than a batch: 64 are needed"):
        check_samples(63, 64)


@pytest.mark.parametrize(
    "words",
    [
        "intervals --task digits --rows ROWS --power=-5",
        "intervals --task digits --rows ROWS --power inf",
        "intervals --task digits --rows ROWS --runs 1",
        "calibrate --task digits --stretch 9800:64:0",
        "calibrate --task digits --stretch 9800:0:100",
        "calibrate --task digits --stretch 9800:64",
        "calibrate --task digits --stretch 10001:64:100",
        "recipes --samples 0",
        "recipes --filters=-1",
        "recipes --frozen 10001",
        "recipes --seeds=-1",
        "bench --records 0",
        "bench --turns 0",
        "attacks --task digits --records 0",
        "attacks --task digits --courses=-1",
        "attacks --task digits --ground 9500:",
        "attacks --task digits --ground 9500:0",
        "figures --task digits --seeds 0",
        "figures --task digits --shares 101",
    ],
)
def test_every_command_refuses_numbers_that_mean_nothing(
    words: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*words.split(), "--data", str(file)])
    assert caught.value.code == 2
    assert "error: argument --" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("recipes --samples 16", "16 samples are less than a batch"),
        ("recipes --blocks 9", "9 blocks, at most 8"),
        ("attacks --task digits --ground 9500:3", "3 samples are less than a batch"),
        ("attacks --task digits --filters 100000", "bad-network"),
        ("figures --task digits --images 1", "1 samples are less than a batch"),
    ],
)
def test_what_the_numbers_cannot_make_is_one_line(
    words: str,
    line: str,
    file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*words.split(), "--data", str(file)]) == 1
    (told,) = capsys.readouterr().err.splitlines()
    assert line in told
    assert list(tmp_path.iterdir()) == []
