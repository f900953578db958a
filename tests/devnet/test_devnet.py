"""The whole path with real processes: a dataset server, three nodes and two miners that train."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from node.devnet.control import read_run
from node.devnet.files import DevnetFiles
from node.devnet.processes import find_marked

FREEZENET = (sys.executable, "-P", "-m", "node")
TIMEOUT_SECONDS = 400


def run_devnet(directory: Path, *words: str) -> dict[str, Any]:
    """The report of a headless run; its lines on failure."""
    command = (*FREEZENET, "devnet", "up", "--dir", str(directory), "--json", *words)
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
    assert done.returncode == 0, done.stderr + read_logs(directory)
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def read_logs(directory: Path) -> str:
    """The ends of all logs, for a failure's sake."""
    return "\n".join(
        f"--- {path.parent.name}\n{path.read_text(encoding='utf-8')[-3_000:]}"
        for path in sorted(directory.glob("*/log.txt"))
    )


def check_report(report: Mapping[str, Any], blocks: int) -> None:
    assert [node["name"] for node in report["nodes"]] == ["n1", "n2", "n3"]
    assert len({node["tip"] for node in report["nodes"]}) == 1
    height = report["nodes"][0]["height"]
    assert height >= blocks
    assert [block["height"] for block in report["blocks"]] == list(range(1, height + 1))
    assert report["blocks"][-1]["id"] == report["nodes"][0]["tip"]
    for block in report["blocks"]:
        assert block["train_correct"] >= block["required_train"]
        assert block["eval_correct"] >= block["required_eval"]
        assert block["attempts"] >= 1
        assert block["seconds"] >= 5


@pytest.mark.timeout(2 * TIMEOUT_SECONDS)
def test_a_devnet_mines_converges_stops_and_resumes(tmp_path: Path) -> None:
    directory = tmp_path / "devnet"
    report = run_devnet(directory, "--nodes", "3", "--miners", "2", "--blocks", "3")
    check_report(report, 3)
    assert all(node["evaluated"] >= node["height"] for node in report["nodes"])
    assert all(miner["attempts"] > 0 for miner in report["totals"]["miners"])
    run = read_run(DevnetFiles(directory))
    assert run is not None
    assert find_marked(run.token) == []

    resumed = run_devnet(directory, "--blocks", str(len(report["blocks"])))
    check_report(resumed, len(report["blocks"]))
    assert resumed["blocks"][: len(report["blocks"])] == report["blocks"]


@contextmanager
def supervised(directory: Path) -> Iterator[subprocess.Popen[str]]:
    """A devnet that goes on until it is stopped, once everything in it runs."""
    command = (*FREEZENET, "devnet", "up", "--dir", str(directory), "--nodes", "2", "--miners", "1")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as supervisor:
        assert supervisor.stdout is not None
        try:
            waiting = {"dataset", "n1", "n2", "m1"}
            for line in supervisor.stdout:
                waiting -= {name for name in waiting if f" {name}" in line and line.endswith(": running\n")}
                if not waiting:
                    break
            yield supervisor
        finally:
            supervisor.kill()


@pytest.mark.timeout(TIMEOUT_SECONDS)
def test_a_killed_supervisor_leaves_no_real_process(tmp_path: Path) -> None:
    with supervised(tmp_path) as supervisor:
        tree = psutil.Process(supervisor.pid).children(recursive=True)
        # Four services, the guard, two verification workers and a trainer, at least.
        assert len(tree) >= 8
        supervisor.kill()
    _, alive = psutil.wait_procs(tree, timeout=60)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []
