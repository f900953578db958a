"""One chain's SQLite file: opening it, one writer, many read-only snapshots.

What is in it is chain.tables', what is read from it chain.view's, what is written chain.writer's.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, insert, select
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from chain.engines import build_reader, build_writer, take_process_lock
from chain.errors import StoreError
from chain.schema import apply_migrations
from chain.tables import chain
from chain.view import View
from chain.writer import write_genesis
from consensus.dataset import encode_dataset_spec
from consensus.params import ChainSpec, decode_params


class Store:
    """An open database of one chain, made by `open_store`."""

    def __init__(self, path: Path, spec: ChainSpec, busy_timeout_seconds: float) -> None:
        self.path = path
        self.spec = spec
        self._writer_lock = threading.Lock()
        self._process_lock = take_process_lock(path)
        self._writer = build_writer(path, busy_timeout_seconds)
        self._reader = build_reader(path, busy_timeout_seconds)

    @contextmanager
    def read(self) -> Iterator[View]:
        """One consistent snapshot, that of its first read; never waits for the writer. Raises StoreError.

        Fetch what you need and leave: a snapshot held open keeps the write-ahead log from shrinking.
        """
        with translate_errors(self.path), self._reader.begin() as connection:
            yield View(connection, self.spec)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction of the one writer: all of it, or on an exception nothing. Raises StoreError."""
        with self._writer_lock, translate_errors(self.path), self._writer.begin() as connection:
            yield connection

    def close(self) -> None:
        """Close every connection and let another process in."""
        self._reader.dispose()
        self._writer.dispose()
        os.close(self._process_lock)


def open_store(path: str | Path, spec: ChainSpec, busy_timeout_seconds: float = 5.0) -> Store:
    """Open or create the database of a chain, upgraded to the newest schema, with genesis in it.

    Raises StoreError where the file holds another chain, is in use by another process, or cannot be opened.
    """
    store = Store(Path(path), spec, busy_timeout_seconds)
    try:
        upgrade_schema(store.path, busy_timeout_seconds)
        with store.write() as connection:
            _apply_chain(connection, store.path, spec)
    except BaseException:
        store.close()
        raise
    return store


def upgrade_schema(path: Path, busy_timeout_seconds: float) -> None:
    """Bring a database that no store has open to the newest schema, in one transaction. Raises StoreError."""
    engine = build_writer(path, busy_timeout_seconds, foreign_keys=False)
    try:
        with translate_errors(path), engine.begin() as connection:
            apply_migrations(connection)
    finally:
        engine.dispose()


@contextmanager
def translate_errors(path: Path) -> Iterator[None]:
    """Turn whatever the database raises into one clear StoreError."""
    try:
        yield
    except DBAPIError as error:
        raise StoreError(f"{path}: {error.orig}") from error
    except SQLAlchemyError as error:
        raise StoreError(f"{path}: {error}") from error


def _apply_chain(connection: Connection, path: Path, spec: ChainSpec) -> None:
    """Write the chain into a new database, or refuse one that holds another."""
    params = connection.execute(select(chain.c.params)).scalar_one_or_none()
    if params is None:
        dataset = encode_dataset_spec(spec.dataset)
        connection.execute(insert(chain).values(id=1, params=spec.params_bytes, dataset=dataset))
        write_genesis(connection, spec)
    elif params != spec.params_bytes:
        held = ChainSpec(decode_params(params), spec.dataset)
        raise StoreError(
            f"{path} holds chain {held.params.name} {held.chain_id.hex()}, not"
            f" {spec.params.name} {spec.chain_id.hex()}"
        )
