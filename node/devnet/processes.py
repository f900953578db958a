"""Processes of one run of a devnet: how they are recognised, and how they are ended with all their children.

Every process of a run bears the run's token in its environment, which its children inherit. So a process is
ours iff it bears the token: a process id that was given to somebody else since is never signalled.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

TOKEN_VARIABLE = "FREEZENET_DEVNET_RUN"
_POLL_SECONDS = 0.05
_KILL_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process id, and what tells its process from a later one of the same id."""

    pid: int
    started: str


def identify_process(pid: int) -> ProcessIdentity | None:
    """The identity of the process that has this id now; None where there is none."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return ProcessIdentity(pid, _read_start(process))
    except psutil.NoSuchProcess:
        return None


def is_alive(identity: ProcessIdentity) -> bool:
    """Whether that very process still runs."""
    return identify_process(identity.pid) == identity


def find_marked(token: str) -> list[psutil.Process]:
    """The living processes that bear a run's token."""
    return list(_iterate_marked(token))


def stop_marked(token: str, grace_seconds: float) -> int:
    """Ends every process of a run: the services by SIGTERM, what is left after the grace by SIGKILL.

    Returns how many there were.
    """
    found = find_marked(token)
    # A service ends its own children in order; they are only signalled where it does not.
    leaders = [process for process in found if _is_group_leader(process)]
    for process in leaders:
        _send(process, signal.SIGTERM)
    _wait_for_end(leaders, grace_seconds)
    deadline = time.monotonic() + _KILL_SECONDS
    # Again and again: a process may have been about to start another one.
    while (left := find_marked(token)) and time.monotonic() < deadline:
        for process in left:
            _send(process, signal.SIGKILL)
        time.sleep(_POLL_SECONDS)
    return len(found)


def kill_group(token: str, group: int) -> None:
    """Kills what bears the token in a process group: what a service that ended left behind."""
    for process in find_marked(token):
        if _get_group(process) == group:
            _send(process, signal.SIGKILL)


@contextmanager
def guarding(token: str) -> Iterator[None]:
    """A process beside this one that ends whatever bears the token as soon as this one is gone."""
    guard = subprocess.Popen(
        [sys.executable, "-P", "-m", "node.devnet.guard", token],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield
    finally:
        # Closes its input and waits until it has swept.
        guard.communicate()


def build_environment(parent: Mapping[str, str], token: str) -> dict[str, str]:
    """The environment of a marked process: no setting of the caller's node, one thread, and the token."""
    environment = {name: value for name, value in parent.items() if not name.startswith("FREEZENET_")}
    return {**environment, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", TOKEN_VARIABLE: token}


def _iterate_marked(token: str) -> Iterator[psutil.Process]:
    own = os.getpid()
    for process in psutil.process_iter():
        try:
            is_ours = process.environ().get(TOKEN_VARIABLE) == token
            if is_ours and process.pid != own and process.status() != psutil.STATUS_ZOMBIE:
                yield process
        except (psutil.NoSuchProcess, psutil.AccessDenied, OSError):
            continue


def _wait_for_end(processes: Sequence[psutil.Process], seconds: float) -> None:
    """Looks, rather than waits as psutil can: whoever started a process must learn its exit code."""
    deadline = time.monotonic() + seconds
    while any(map(_lives, processes)) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _get_group(process: psutil.Process) -> int | None:
    try:
        return os.getpgid(process.pid)
    except ProcessLookupError:
        return None


def _is_group_leader(process: psutil.Process) -> bool:
    return _get_group(process) == process.pid


def _send(process: psutil.Process, number: signal.Signals) -> None:
    """psutil compares the start time first, so that a reused process id is not hit."""
    try:
        process.send_signal(number)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return


def _read_start(process: psutil.Process) -> str:
    """Ticks since the boot where the system tells them: they do not move when the clock is set."""
    try:
        # The second field is a name in parentheses that may hold anything; the start is the 22nd.
        fields = Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8", errors="replace")
        return fields.rpartition(")")[2].split()[19]
    except OSError:
        return f"{process.create_time():.1f}"
