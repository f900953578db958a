"""What can go wrong with datasets on this side of the protocol.

    DatasetError
    ├── ImportRefused    files of the user cannot become a dataset
    ├── DatasetMissing   the store lacks the dataset, or a chunk of it
    └── DatasetUnavailable   no source could give what is missing

Bytes that break the protocol raise consensus.errors instead.
"""

from __future__ import annotations


class DatasetError(Exception):
    """Its text is one line for the operator."""


class ImportRefused(DatasetError):
    """The files offered for import cannot become a dataset."""


class DatasetMissing(DatasetError):
    """The store does not hold the whole dataset."""


class DatasetUnavailable(DatasetError):
    """Every source lied, failed or lacks the dataset; a later call goes on where this one ended."""
