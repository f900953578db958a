"""Recognising and ending the processes of a run, and of nobody else."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from node.devnet.processes import (
    TOKEN_VARIABLE,
    ProcessIdentity,
    find_marked,
    identify_process,
    is_alive,
    kill_group,
    stop_marked,
)
from tests.node.devnet.waiting import is_running, wait_until

OURS, THEIRS = secrets.token_hex(8), secrets.token_hex(8)
"""Drawn anew in every process: tests that run beside these must not end their processes."""
SLEEP = "import time; print(flush=True); time.sleep(600)"
DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEP}"
PARENT = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", {DEAF!r}], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(600)
"""


@contextmanager
def child(code: str, token: str | None) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process in its own session, and the first line that it printed."""
    environment = {**os.environ, TOKEN_VARIABLE: token} if token else dict(os.environ)
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        env=environment,
        start_new_session=True,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


def test_an_identity_is_that_of_one_process_only() -> None:
    with child(SLEEP, None) as (process, _):
        identity = identify_process(process.pid)
        assert identity is not None
        assert is_alive(identity)
        assert not is_alive(ProcessIdentity(process.pid, "12345"))
        process.kill()
        process.wait()
        assert not is_alive(identity)
    assert identify_process(process.pid) is None


def test_stops_what_bears_the_token_and_nothing_else() -> None:
    with (
        child(SLEEP, OURS) as (ours, _),
        child(SLEEP, THEIRS) as (theirs, _),
        child(SLEEP, None) as (
            stranger,
            _,
        ),
    ):
        assert [process.pid for process in find_marked(OURS)] == [ours.pid]
        assert stop_marked(OURS, 5.0) == 1
        assert ours.wait() == -15
        assert is_running(theirs.pid)
        assert is_running(stranger.pid)


def test_kills_what_does_not_end() -> None:
    with child(DEAF, OURS) as (process, _):
        stop_marked(OURS, 0.1)
        assert process.wait() == -9


def test_kills_children_that_outlive_their_service() -> None:
    with child(PARENT, OURS) as (service, grandchild):
        assert len(find_marked(OURS)) == 2
        stop_marked(OURS, 0.1)
        assert service.wait() == -15
        assert not is_running(int(grandchild))


def test_kills_what_is_left_of_a_group() -> None:
    with child(PARENT, OURS) as (service, grandchild):
        service.kill()
        service.wait()
        assert is_running(int(grandchild))
        kill_group(THEIRS, service.pid)
        assert is_running(int(grandchild))
        kill_group(OURS, service.pid)
        wait_until(lambda: not is_running(int(grandchild)), "the end of the grandchild")


def test_stopping_nothing_is_nothing() -> None:
    assert stop_marked("nobody", 5.0) == 0
