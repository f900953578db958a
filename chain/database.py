"""The operator's view of the database file: checking it from the ground up, and upgrading its schema."""

from __future__ import annotations

from pathlib import Path

from consensus.params import ChainSpec


def check_database(path: Path, spec: ChainSpec) -> list[str]:
    """Everything wrong with a database, a line each; empty where it is sound. Reads only.

    Raises StoreError where the file cannot be opened.
    """
    raise NotImplementedError


def upgrade_database(path: Path) -> str:
    """Bring a database to the newest schema and return its revision. Raises StoreError."""
    raise NotImplementedError
