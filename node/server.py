"""Serving a runtime on a socket until a signal or an order ends it; SIGTERM equals Ctrl-C."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from types import FrameType

from fastapi import FastAPI
from uvicorn.config import LifespanType

from consensus.params import ChainSpec
from node.app import build_app
from node.incoming import BoundedServer, raise_file_limit
from node.runtime import NodeRuntime
from node.settings import NodeSettings

GRACEFUL_SECONDS = 5


def run_node(settings: NodeSettings, spec: ChainSpec, listener: socket.socket) -> None:
    """Serve until stopped, in order; logs are configured already.

    Raises StoreError and DataDirectoryError where the node cannot begin, and whatever made it stop by itself.
    """
    raise_file_limit()
    runtime = NodeRuntime(settings, spec, clock=time.time, random=random.SystemRandom())
    NodeServer(runtime, build_app(runtime)).run(sockets=[listener])
    if runtime.failure is not None:
        raise runtime.failure


class NodeServer(BoundedServer):
    """The node's, which sends streams home before it waits for them, and raises no signal at its end."""

    def __init__(self, runtime: NodeRuntime, app: FastAPI, lifespan: LifespanType = "on") -> None:
        super().__init__(app, GRACEFUL_SECONDS, lifespan)
        self._runtime = runtime
        self._loop: asyncio.AbstractEventLoop | None = None

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until stopped."""
        self._loop = asyncio.get_running_loop()
        self._runtime.request_stop = self.stop
        await super().serve(sockets)

    def stop(self) -> None:
        """Begin to stop; a second call waits for no open request. Safe in signal handlers and threads."""
        self.force_exit = self.should_exit
        self.should_exit = True
        if self._loop is not None:
            # Not at once: a signal may come while this very thread holds the lock of the events.
            self._loop.call_soon_threadsafe(self._runtime.begin_stop)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop; unlike uvicorn's own, it keeps no signal to raise at the end, so that the exit code is 0."""
        self.stop()
