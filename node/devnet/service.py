"""One service of the devnet: its process, its log, its restarts and its end."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from pathlib import Path

from node.devnet.plan import ServiceSpec
from node.devnet.processes import ProcessIdentity, build_environment, identify_process, kill_group

RESTARTS_ALLOWED = 5
RESTART_WINDOW_SECONDS = 60.0
FIRST_PAUSE_SECONDS = 0.5
STOP_GRACE_SECONDS = 10.0
_USAGE_EXIT_CODE = 2


class ServiceState(StrEnum):
    """How a service stands."""

    WAITING = "waiting"
    """Not started yet."""
    STARTING = "starting"
    """Its process lives, but did not answer yet."""
    RUNNING = "running"
    RESTARTING = "restarting"
    """Its process died and another one follows."""
    FAILED = "failed"
    """Its process died too often."""
    STOPPED = "stopped"


OnChange = Callable[["Service"], None]


class Service:
    """Keeps one process alive until it is stopped or fails for good."""

    def __init__(
        self,
        spec: ServiceSpec,
        log_path: Path,
        token: str,
        on_change: OnChange,
        first_pause_seconds: float = FIRST_PAUSE_SECONDS,
    ) -> None:
        self.spec = spec
        self.state = ServiceState.WAITING
        self.identity: ProcessIdentity | None = None
        self.reason = ""
        """Why it is not running, where it is not."""
        self._log_path = log_path
        self._token = token
        self._environment = build_environment(os.environ, token)
        self._on_change = on_change
        self._first_pause_seconds = first_pause_seconds
        self._deaths: deque[float] = deque()
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to keep the process alive."""
        self._keeper = asyncio.create_task(self._keep())

    def note_answer(self) -> None:
        """The process does its work."""
        if self.state is ServiceState.STARTING:
            self._change(ServiceState.RUNNING)

    async def stop(self, grace_seconds: float = STOP_GRACE_SECONDS) -> None:
        """Ends the process and its group, by force after the grace."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            with suppress(asyncio.CancelledError):
                await keeper
        if self._process is not None:
            await self._end_process(self._process, grace_seconds)
        if self.state is not ServiceState.FAILED:
            self._change(ServiceState.STOPPED)

    async def _keep(self) -> None:
        while True:
            try:
                self._process = await self._spawn()
            except OSError as error:
                self.reason = f"cannot be started: {error}"
                self._change(ServiceState.FAILED)
                return
            self.identity = identify_process(self._process.pid)
            self._change(ServiceState.STARTING)
            exit_code = await self._process.wait()
            # Its workers and trainers must not outlive it.
            kill_group(self._token, self._process.pid)
            self._process = self.identity = None
            if not await self._may_go_on(exit_code):
                return

    async def _spawn(self) -> asyncio.subprocess.Process:
        self._log_path.parent.mkdir(parents=True, exist_ok=True)
        with self._log_path.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *self.spec.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                start_new_session=True,
            )

    async def _may_go_on(self, exit_code: int) -> bool:
        now = time.monotonic()
        self._deaths.append(now)
        while now - self._deaths[0] > RESTART_WINDOW_SECONDS:
            self._deaths.popleft()
        self.reason = describe_end(exit_code, read_last_line(self._log_path))
        if exit_code == _USAGE_EXIT_CODE or len(self._deaths) > RESTARTS_ALLOWED:
            self._change(ServiceState.FAILED)
            return False
        self._change(ServiceState.RESTARTING)
        await asyncio.sleep(self._first_pause_seconds * 2 ** (len(self._deaths) - 1))
        return True

    async def _end_process(self, process: asyncio.subprocess.Process, grace_seconds: float) -> None:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.terminate()
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), grace_seconds)
        if process.returncode is None:
            process.kill()
            await process.wait()
        kill_group(self._token, process.pid)
        self._process = self.identity = None

    def _change(self, state: ServiceState) -> None:
        if state in (ServiceState.RUNNING, ServiceState.STOPPED):
            self.reason = ""
        self.state = state
        self._on_change(self)


def describe_end(exit_code: int, last_line: str) -> str:
    """Why a process ended, in a line."""
    if exit_code < 0:
        return f"killed by {signal.Signals(-exit_code).name}"
    return f"exit code {exit_code}" + (f": {last_line}" if last_line else "")


def read_last_line(path: Path) -> str:
    """The last line of a log that says something."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 4096))
            lines = file.read().decode("utf-8", errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
