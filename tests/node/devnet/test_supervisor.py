"""A whole run with stubs for services: the goal, its failures, and an end that leaves no process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from node.devnet.control import list_services, read_run, stop_devnet
from node.devnet.errors import DevnetError
from node.devnet.files import DevnetFiles
from node.devnet.processes import find_marked
from node.devnet.supervisor import Goal
from tests.node.devnet.fake_network import build_blocks
from tests.node.devnet.stub_devnet import RecordingScreen, build_stub_services, run_stubs
from tests.node.devnet.waiting import is_running, wait_until
from tests.node.miner.fake_node import ADDRESS

ROOT = Path(__file__).parents[3]


def get_token(files: DevnetFiles) -> str:
    run = read_run(files)
    assert run is not None
    return run.token


async def test_a_run_reaches_its_goal_and_leaves_no_process(tmp_path: Path) -> None:
    files = DevnetFiles(tmp_path)
    services = build_stub_services(files, (2, 2))
    screen = RecordingScreen(services)
    report = await run_stubs(files, services, screen, Goal(2, 30.0))
    assert isinstance(report, dict)
    tip = build_blocks(2)[-1].header.block_id.hex()
    assert report["nodes"] == [
        {"name": name, "height": 2, "tip": tip, "evaluated": 7} for name in ("n1", "n2")
    ]
    assert [block["attempts"] for block in report["blocks"]] == [1, 0]
    assert report["totals"]["miners"][0]["address"] == ADDRESS
    assert find_marked(get_token(files)) == []
    assert {service["state"] for service in list_services(files)} == {"stopped"}
    assert not any(is_running(pid) for pid in screen.pids.values())


async def test_tells_why_nodes_did_not_agree_in_time(tmp_path: Path) -> None:
    files = DevnetFiles(tmp_path)
    services = build_stub_services(files, (2, 1))
    with pytest.raises(DevnetError, match="after 3 s not every node has height 2: n2 has height 1"):
        await run_stubs(files, services, RecordingScreen(services), Goal(2, 3.0))
    assert find_marked(get_token(files)) == []


async def test_tells_which_service_failed(tmp_path: Path) -> None:
    files = DevnetFiles(tmp_path)
    services = build_stub_services(files, (2,))
    broken = replace(
        services[1], command=(sys.executable, "-c", "print('no chain', flush=True); raise SystemExit(2)")
    )
    with pytest.raises(DevnetError, match="node n1 failed: exit code 2: no chain"):
        await run_stubs(files, [services[0], broken], RecordingScreen(services), Goal(2, 30.0))


@contextmanager
def devnet_process(directory: Path) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A supervisor in a process of its own, all of its services running, with every process below it."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.node.devnet.stub_devnet", str(directory)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as supervisor:
        assert supervisor.stdout is not None
        try:
            assert len(supervisor.stdout.readline().split()) == 4
            tree = [process.pid for process in psutil.Process(supervisor.pid).children(recursive=True)]
            yield supervisor, tree
        finally:
            supervisor.kill()


def test_a_killed_supervisor_leaves_no_process(tmp_path: Path) -> None:
    with devnet_process(tmp_path) as (supervisor, tree):
        # Four services, a child of the miner, and the guard.
        assert len(tree) == 6
        supervisor.kill()
    wait_until(lambda: not any(map(is_running, tree)), "the end of every process")
    assert {service["state"] for service in list_services(DevnetFiles(tmp_path))} == {"stopped"}


def test_sigterm_ends_everything_in_order(tmp_path: Path) -> None:
    with devnet_process(tmp_path) as (supervisor, tree):
        supervisor.terminate()
        assert supervisor.wait(timeout=60) == 0
        assert not any(map(is_running, tree))


def test_down_ends_a_running_devnet(tmp_path: Path) -> None:
    with devnet_process(tmp_path) as (supervisor, tree):
        # The supervisor is this process's child: until it is waited for, it counts as ended all the same.
        assert stop_devnet(DevnetFiles(tmp_path))
        assert supervisor.wait(timeout=60) == 0
        assert not any(map(is_running, tree))


def test_down_after_supervisor_and_guard_were_killed(tmp_path: Path) -> None:
    with devnet_process(tmp_path) as (supervisor, tree):
        guards = [pid for pid in tree if "node.devnet.guard" in psutil.Process(pid).cmdline()]
        assert len(guards) == 1
        os.kill(guards[0], signal.SIGKILL)
        supervisor.kill()
        supervisor.wait()
        files = DevnetFiles(tmp_path)
        assert {service["state"] for service in list_services(files)} == {"orphaned"}
        assert stop_devnet(files)
    wait_until(lambda: not any(map(is_running, tree)), "the end of every process")
