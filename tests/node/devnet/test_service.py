"""One service: kept alive, restarted with a limit, ended with all its children."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from node.devnet.plan import ServiceSpec
from node.devnet.processes import TOKEN_VARIABLE, build_environment, find_marked
from node.devnet.service import (
    Service,
    ServiceState,
    describe_end,
    read_last_line,
)
from tests.node.devnet.test_processes import DEAF, OURS, PARENT, SLEEP
from tests.node.devnet.waiting import is_running, wait_until


class Watched:
    """A service and the states that it went through."""

    def __init__(self, tmp_path: Path, code: str, token: str) -> None:
        self.states: list[ServiceState] = []
        self._news = asyncio.Event()
        self.log = tmp_path / "s" / "log.txt"
        spec = ServiceSpec("s", "node", (sys.executable, "-c", code), None, None)
        self.service = Service(spec, self.log, token, self._note, first_pause_seconds=0.01)

    def _note(self, service: Service) -> None:
        self.states.append(service.state)
        self._news.set()

    async def wait_for(self, state: ServiceState, times: int = 1) -> None:
        async with asyncio.timeout(30):
            while self.states.count(state) < times:
                self._news.clear()
                await self._news.wait()

    async def wait_for_log(self) -> str:
        async with asyncio.timeout(30):
            while not (self.log.exists() and self.log.read_text(encoding="utf-8").endswith("\n")):
                await asyncio.sleep(0.02)
        return self.log.read_text(encoding="utf-8")


@asynccontextmanager
async def kept(tmp_path: Path, code: str, token: str = OURS) -> AsyncIterator[Watched]:
    watched = Watched(tmp_path, code, token)
    watched.service.start()
    try:
        yield watched
    finally:
        await watched.service.stop(grace_seconds=1.0)
        wait_until(lambda: not find_marked(token), "the end of every process")


async def test_runs_once_it_answers_and_stops(tmp_path: Path) -> None:
    async with kept(tmp_path, SLEEP) as watched:
        await watched.wait_for(ServiceState.STARTING)
        watched.service.note_answer()
        assert watched.service.identity is not None
    assert watched.states == [ServiceState.STARTING, ServiceState.RUNNING, ServiceState.STOPPED]
    assert watched.service.identity is None


async def test_restarts_a_killed_process(tmp_path: Path) -> None:
    async with kept(tmp_path, SLEEP) as watched:
        await watched.wait_for(ServiceState.STARTING)
        first = watched.service.identity
        assert first is not None
        os.kill(first.pid, signal.SIGKILL)
        await watched.wait_for(ServiceState.STARTING, times=2)
        assert watched.service.identity != first
        assert watched.service.reason == "killed by SIGKILL"


async def test_kills_the_children_of_a_killed_process(tmp_path: Path) -> None:
    async with kept(tmp_path, PARENT) as watched:
        await watched.wait_for(ServiceState.STARTING)
        grandchild = int(await watched.wait_for_log())
        identity = watched.service.identity
        assert identity is not None
        os.kill(identity.pid, signal.SIGKILL)
        await watched.wait_for(ServiceState.RESTARTING)
        wait_until(lambda: not is_running(grandchild), "the end of the grandchild")


async def test_fails_after_too_many_restarts(tmp_path: Path) -> None:
    async with kept(tmp_path, "print('no way', flush=True); raise SystemExit(1)") as watched:
        await watched.wait_for(ServiceState.FAILED)
        assert watched.states.count(ServiceState.STARTING) == 6
        assert watched.service.reason == "exit code 1: no way"


async def test_does_not_restart_what_was_called_wrongly(tmp_path: Path) -> None:
    async with kept(tmp_path, "raise SystemExit(2)") as watched:
        await watched.wait_for(ServiceState.FAILED)
        assert watched.states == [ServiceState.STARTING, ServiceState.FAILED]


async def test_fails_where_there_is_no_program(tmp_path: Path) -> None:
    watched = Watched(tmp_path, "", OURS)
    service = Service(
        ServiceSpec("s", "node", (str(tmp_path / "absent"),), None, None),
        watched.log,
        OURS,
        watched._note,
    )
    service.start()
    await watched.wait_for(ServiceState.FAILED)
    assert "cannot be started" in service.reason
    await service.stop()


async def test_kills_a_process_that_does_not_end(tmp_path: Path) -> None:
    watched = Watched(tmp_path, DEAF, OURS)
    watched.service.start()
    await watched.wait_for_log()
    await watched.service.stop(grace_seconds=0.05)
    wait_until(lambda: not find_marked(OURS), "the end of every process")


def test_the_environment_has_the_token_and_no_setting_of_the_caller() -> None:
    environment = build_environment({"PATH": "p", "FREEZENET_PORT": "1"}, "t")
    assert environment["PATH"] == "p"
    assert "FREEZENET_PORT" not in environment
    assert (environment[TOKEN_VARIABLE], environment["OMP_NUM_THREADS"]) == ("t", "1")


def test_an_end_is_described() -> None:
    assert describe_end(-11, "") == "killed by SIGSEGV"
    assert describe_end(3, "boom") == "exit code 3: boom"
    assert describe_end(3, "") == "exit code 3"


def test_the_last_line_of_a_log_is_read(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    assert read_last_line(path) == ""
    path.write_text("x" * 10_000 + "\nlast\n\n", encoding="utf-8")
    assert read_last_line(path) == "last"
