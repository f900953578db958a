"""Worker processes of the lab, which end with the command that started them, however it ends."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection


@contextmanager
def start_pool(
    processes: int, start: Callable[..., None], *arguments: object
) -> Iterator[ProcessPoolExecutor]:
    """Spawned processes, each of which calls `start` first. An error in the block ends them at once."""
    context = get_context("spawn")
    reader, writer = context.Pipe(duplex=False)
    with reader, writer:
        pool = ProcessPoolExecutor(processes, context, _start, (reader, start, arguments))
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        pool.shutdown()


def _start(reader: Connection, start: Callable[..., None], arguments: tuple[object, ...]) -> None:
    # A terminal's Ctrl-C reaches every process; the command says what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, args=[reader], daemon=True).start()
    start(*arguments)


def _follow_parent(reader: Connection) -> None:
    # Readable at its end alone: the command left the block, or was killed.
    reader.poll(None)
    # Nobody would write the rows of what still waits here.
    os._exit(1)
