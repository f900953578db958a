"""`freezenet devnet` as a user types it, as far as it needs no training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from node.cli import main
from node.devnet.control import hold_lock
from node.devnet.files import DevnetFiles
from node.devnet.plan import write_plan
from tests.node.devnet.test_plan import PLAN


@pytest.mark.parametrize("words", [["--json"], ["--timeout", "5"]])
def test_rejects_a_headless_run_without_an_end(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["devnet", "up", "--dir", str(tmp_path / "d"), *words]) == 2
    assert "need --blocks" in capsys.readouterr().err
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize("words", [["ps"], ["logs"], ["down"], ["heal"], ["partition", "n1"]])
def test_orders_need_a_devnet(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["devnet", *words, "--dir", str(tmp_path)]) == 1
    assert capsys.readouterr().err == (
        f"freezenet: there is no devnet in {tmp_path}; --dir names another directory\n"
    )


def test_a_devnet_that_is_being_prepared_is_not_absent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with hold_lock(DevnetFiles(tmp_path)):
        assert main(["devnet", "ps", "--dir", str(tmp_path)]) == 1
    assert "is not prepared yet" in capsys.readouterr().err


def test_ps_prints_json_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_plan(DevnetFiles(tmp_path), PLAN)
    assert main(["devnet", "ps", "--json", "--dir", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out) == {"services": []}


def test_down_says_that_nothing_ran(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_plan(DevnetFiles(tmp_path), PLAN)
    assert main(["devnet", "down", "--dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "nothing was running\n"


def test_logs_prints_the_last_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = DevnetFiles(tmp_path)
    write_plan(files, PLAN)
    for name in ("n1", "m2"):
        files.get_service(name).mkdir()
        files.get_log(name).write_text(f"{name} first\n{name} second\n", encoding="utf-8")
    assert main(["devnet", "logs", "n1", "-n", "1", "--dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "n1 second\n"
    assert main(["devnet", "logs", "--dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "n1: n1 first",
        "n1: n1 second",
        "m2: m2 first",
        "m2: m2 second",
    ]
    assert main(["devnet", "logs", "n9", "--dir", str(tmp_path)]) == 1
    assert "no service 'n9'" in capsys.readouterr().err
