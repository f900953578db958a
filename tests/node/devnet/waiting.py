"""Waiting for a condition with a deadline, in tests that start processes."""

from __future__ import annotations

import time
from collections.abc import Callable

import psutil

DEADLINE_SECONDS = 30.0


def wait_until(is_true: Callable[[], bool], what: str) -> None:
    """Returns once it is true; fails the test at the deadline."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not is_true():
        assert time.monotonic() < deadline, f"{what} did not happen in time"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    """Whether a process lives; one that ended and was not waited for does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
