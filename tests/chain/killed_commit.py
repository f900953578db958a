"""A process of its own that commits one block and kills itself on the way: `killed_commit.py DIR RAW POINT`.

POINT is the name of a stage, or the number of a statement of the commit's transaction; the kill comes before
that statement reaches SQLite. Exits 0, saying so, where the commit ended before the point came.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from sqlalchemy import event

from chain.chain import Chain
from chain.signatures import verify_signature
from chain.store import Store, open_store
from tests.builders import build_spec


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_at_stage(point: str, stage: str) -> None:
    print(stage, flush=True)
    if stage == point:
        die()


def die_before_statement(store: Store, number: int) -> None:
    seen = 0

    @event.listens_for(store._writer, "before_cursor_execute")
    def count(*arguments: Any) -> None:
        nonlocal seen
        seen += 1
        if seen == number:
            die()


def main(directory: str, raw: str, point: str) -> None:
    spec = build_spec()
    store = open_store(Path(directory) / "chain.sqlite3", spec)
    chain = Chain(store, spec, verify_signature, on_stage=lambda stage: die_at_stage(point, stage))
    candidate = chain.pre_verify(Path(raw).read_bytes(), 2**40)
    if point.isdecimal():
        die_before_statement(store, int(point))
    chain.commit(candidate)
    print("ended")


if __name__ == "__main__":
    main(*sys.argv[1:])
