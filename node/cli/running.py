"""Runs a command that goes on until it is told to stop; SIGTERM equals Ctrl-C."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any


def run_until_interrupted(coroutine: Coroutine[Any, Any, None]) -> bool:
    """Runs it to its end, or cancels it at the first SIGINT or SIGTERM; True where it ended by itself."""
    return asyncio.run(_run(coroutine))


async def _run(coroutine: Coroutine[Any, Any, None]) -> bool:
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(coroutine)
    interrupted = False

    def interrupt() -> None:
        nonlocal interrupted
        interrupted = True
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupt)
    try:
        await task
    except asyncio.CancelledError:
        if not interrupted:
            raise
    return not interrupted
