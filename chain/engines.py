"""Connections to one SQLite file: how they are opened, and the lock that keeps a second process out."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.pool import NullPool, QueuePool

from chain.errors import StoreError

_READERS = 8
_EXTRA_READERS = 56


def build_writer(path: Path, busy_timeout_seconds: float, foreign_keys: bool = True) -> Engine:
    """The engine of the one writer; its transactions take the database's write lock as they begin.

    Migrations go without foreign keys: they rebuild tables, and a dropped table would violate them.
    """

    def connect() -> sqlite3.Connection:
        connection = _connect(path, "rwc", busy_timeout_seconds)
        # Write-ahead: readers never wait for the writer. FULL: a block that was reported accepted survives
        # even a power cut; one disk sync a block costs nothing beside its evaluation.
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(f"PRAGMA foreign_keys={int(foreign_keys)}")
        return connection

    engine = create_engine("sqlite://", creator=connect, poolclass=QueuePool, pool_size=1, max_overflow=0)
    _begin_with(engine, "BEGIN IMMEDIATE")
    return engine


def build_reader(path: Path, busy_timeout_seconds: float) -> Engine:
    """An engine of connections that cannot write, each transaction one consistent snapshot."""
    engine = create_engine(
        "sqlite://",
        creator=_read_only(path, busy_timeout_seconds),
        poolclass=QueuePool,
        pool_size=_READERS,
        max_overflow=_EXTRA_READERS,
    )
    _begin_with(engine, "BEGIN")
    return engine


def build_inspector(path: Path, busy_timeout_seconds: float) -> Engine:
    """A read-only engine that keeps no connection open, for a look at a file that nobody may have open."""
    engine = create_engine("sqlite://", creator=_read_only(path, busy_timeout_seconds), poolclass=NullPool)
    _begin_with(engine, "BEGIN")
    return engine


def take_process_lock(path: Path) -> int:
    """Lock the database against a second writing process; the kernel frees it with this one, however it ends.

    Returns the descriptor to close. Raises StoreError where another process, or another Store here, has it.
    """
    try:
        descriptor = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise StoreError(f"cannot open {path}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise StoreError(f"{path} is in use by another process") from error
    return descriptor


def _read_only(path: Path, busy_timeout_seconds: float) -> Callable[[], sqlite3.Connection]:
    def connect() -> sqlite3.Connection:
        connection = _connect(path, "ro", busy_timeout_seconds)
        connection.execute("PRAGMA query_only=ON")
        return connection

    return connect


def _connect(path: Path, mode: str, busy_timeout_seconds: float) -> sqlite3.Connection:
    # Without an isolation level the driver begins nothing by itself: transactions begin where we say.
    return sqlite3.connect(
        f"file:{quote(str(path.absolute()))}?mode={mode}",
        uri=True,
        timeout=busy_timeout_seconds,
        isolation_level=None,
        check_same_thread=False,
    )


def _begin_with(engine: Engine, statement: str) -> None:
    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(statement)
