"""The wall clock as an argument: what header timestamps are held against.

Durations (timeouts, retries, rates) are measured on the event loop's own clock instead, which never jumps.
"""

from __future__ import annotations

from collections.abc import Callable

Clock = Callable[[], float]
"""Seconds since the Unix epoch; `time.time` outside tests and simulations."""
