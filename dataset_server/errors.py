"""What can go wrong with datasets on this side of the protocol.

    DatasetError
    ├── ImportRefused    files of the user cannot become a dataset
    ├── DatasetMissing   the store lacks the dataset, or a chunk of it
    └── DatasetUnavailable   no source could give what is missing

Bytes that break the protocol raise consensus.errors instead.
"""

from __future__ import annotations

from enum import StrEnum


class DatasetError(Exception):
    """Its text is one line for the operator."""


class ImportCode(StrEnum):
    """Why files were refused; stable, and the first word of the line."""

    MISSING_FILE = "missing-file"
    UNREADABLE_FILE = "unreadable-file"
    BAD_HEADER = "bad-header"
    WRONG_LENGTH = "wrong-length"
    WRONG_SHAPE = "wrong-shape"
    WRONG_CLASSES = "wrong-classes"
    DOWNLOAD_FAILED = "download-failed"


class ImportRefused(DatasetError):
    """The files offered for import cannot become a dataset."""

    def __init__(self, code: ImportCode, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code


class DatasetMissing(DatasetError):
    """The store does not hold the whole dataset."""


class DatasetUnavailable(DatasetError):
    """Every source lied, failed or lacks the dataset; a later call goes on where this one ended."""
