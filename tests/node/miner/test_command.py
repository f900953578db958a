"""`freezenet miner`: what is wrong with its arguments is told in one line, before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from consensus.address import encode_address
from node.cli import main

ADDRESS = encode_address(bytes(range(32)))
RUN = ["run", "--address", ADDRESS]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["run", "--address", "fz1nothing"], "is no address"),
        ([*RUN, "--node", "127.0.0.1:8645"], "'127.0.0.1:8645' is not an http or https URL"),
        ([*RUN, "--node", "http://127.0.0.1:99999"], "ports are 1 to 65,535"),
        ([*RUN, "--node", "http://[::1"], "'http://[::1' is not an http or https URL"),
        ([*RUN, "--node", "http://:8645"], "'http://:8645' is not an http or https URL"),
        ([*RUN, "--node", "http://a..b"], "'http://a..b' is not an http or https URL"),
        ([*RUN, "--device", "foo"], "there is no device 'foo'"),
        ([*RUN, "--device", "cuda:x"], "there is no device 'cuda:x'"),
        ([*RUN, "--device", "cuda:99"], "this machine has no device 'cuda:99'"),
        (["bench", "--device", "cuda:99"], "this machine has no device 'cuda:99'"),
    ],
)
def test_wrong_arguments_are_a_usage_error(
    words: list[str], line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = ["--dir", str(tmp_path / "miner")] if words[0] == "run" else []
    assert main(["miner", *words, *directory]) == 2
    told = capsys.readouterr().err
    assert line in told
    assert len(told.splitlines()) == 1
    assert not (tmp_path / "miner").exists()


@pytest.mark.parametrize("option", ["--block-seconds", "--seconds"])
@pytest.mark.parametrize("value", ["inf", "nan", "1e300", "0"])
def test_a_bench_takes_seconds_that_there_can_be(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["miner", "bench", option, value]) == 2
    assert f"'{option}'" in capsys.readouterr().err


@pytest.mark.parametrize(("directory", "reason"), [("taken", "File exists"), ("taken/x", "Not a directory")])
def test_a_directory_that_cannot_be_made_is_one_line(
    directory: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken").write_bytes(b"a file")
    words = ["--node", "http://127.0.0.1:1", "--dir", str(tmp_path / directory)]
    assert main(["miner", *RUN, *words]) == 1
    assert capsys.readouterr().err == f"freezenet: {tmp_path / directory}: {reason}\n"


def test_node_is_taken_from_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FREEZENET_NODE", "nowhere")
    assert main(["miner", *RUN, "--dir", str(tmp_path / "miner")]) == 2
    assert "'nowhere' is not" in capsys.readouterr().err
