"""Ends a devnet's processes when its supervisor is gone, however it went: python -m node.devnet.guard TOKEN.

The supervisor holds the other end of this process's standard input and never writes. When it ends, also by
kill -9, the input ends; what then still bears the run's token is ended too.
"""

from __future__ import annotations

import signal
import sys

from node.devnet.processes import stop_marked

GRACE_SECONDS = 5.0


def main() -> None:
    """Waits for the end of the input, then for that of the processes."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    stop_marked(sys.argv[1], GRACE_SECONDS)


if __name__ == "__main__":
    main()
