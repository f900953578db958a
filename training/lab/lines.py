"""Rows of the lab: one JSON object a line, added as they are measured, so that a killed command goes on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

Row = TypeVar("Row")
"""A dataclass."""


def read_lines(path: Path, kind: type[Row]) -> list[Row]:
    """The rows of a file, none where there is no file; a last line cut by a kill is left out.

    Arrays become tuples. Raises ValueError for a line that is no row of this kind.
    """
    return [_decode(path, line, kind) for line in read_whole_lines(path)]


def read_whole_lines(path: Path) -> list[str]:
    """The lines of a file but one cut by a kill; none where there is no file."""
    if not path.exists():
        return []
    lines = path.read_text("utf-8").splitlines(keepends=True)
    return [line for line in lines if line.endswith("\n")]


@contextmanager
def open_behind_whole_lines(path: Path) -> Iterator[BinaryIO]:
    """A file to add lines to, and its folder; first removes a row cut by a kill.

    Raises ValueError where what would be removed is no beginning of a row.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        file.seek(0)
        *kept, cut = file.read().rpartition(b"\n")
        if cut and not cut.startswith(b"{"):
            raise ValueError(f"{path} ends in something that is no row")
        file.truncate(sum(map(len, kept)))
        yield file


def append_lines(path: Path, rows: Iterable[Row], kind: type[Row]) -> Iterator[Row]:
    """Adds a line for each row as it comes, and passes it on; first removes a line cut by a kill.

    Raises ValueError for a file with a line that is no row of this kind.
    """
    read_lines(path, kind)
    with open_behind_whole_lines(path) as file:
        for row in rows:
            file.write(_encode(row).encode())
            file.flush()
            yield row


def _encode(row: Any) -> str:
    return json.dumps(asdict(row), separators=(",", ":")) + "\n"


def _decode(path: Path, line: str, kind: type[Row]) -> Row:
    try:
        values: dict[str, Any] = dict(json.loads(line))
        return kind(**{key: tuple(v) if isinstance(v, list) else v for key, v in values.items()})
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} has a line that is no {kind.__name__}: {error}") from None
