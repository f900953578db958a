"""Worker processes of the lab, which end with the command that started them, however it ends."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process


def start_pool(processes: int, start: Callable[..., None], *arguments: object) -> ProcessPoolExecutor:
    """Spawned processes, each of which calls `start` first."""
    return ProcessPoolExecutor(processes, get_context("spawn"), _start, (start, arguments))


def _start(start: Callable[..., None], arguments: tuple[object, ...]) -> None:
    threading.Thread(target=_follow_parent, daemon=True).start()
    start(*arguments)


def _follow_parent() -> None:
    parent = parent_process()
    assert parent is not None, "the pool spawned this process"
    parent.join()
    # Killed: nobody would write the rows of what still waits here.
    os._exit(1)
