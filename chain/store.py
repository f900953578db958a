"""The SQLite file: opening, upgrading, one writer, many read-only snapshots. What is in it is chain.tables'."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chain.view import View
from consensus.params import ChainSpec


class Store:
    """An open database of one chain, made by `open_store`."""

    spec: ChainSpec

    @contextmanager
    def read(self) -> Iterator[View]:
        """One consistent read-only snapshot; never waits for the writer. Raises StoreError.

        Fetch what you need and leave: a snapshot held open keeps the write-ahead log from shrinking.
        """
        raise NotImplementedError
        yield

    def close(self) -> None:
        """Close every connection."""
        raise NotImplementedError


def open_store(path: str | Path, spec: ChainSpec, busy_timeout_seconds: float = 5.0) -> Store:
    """Open or create the database of a chain, upgraded to the newest schema, with genesis in it.

    Raises StoreError where the file holds another chain, is in use by another process, or cannot be opened.
    """
    raise NotImplementedError
