"""Bringing a database to the newest schema, by the alembic revisions in chain.migrations."""

from __future__ import annotations

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import Connection

from chain.errors import StoreError


def get_newest_revision() -> str:
    """The revision that this release writes."""
    revision = ScriptDirectory.from_config(_build_config()).get_current_head()
    assert revision is not None
    return revision


def get_revision(connection: Connection) -> str | None:
    """The revision of a database; None where it has no schema yet."""
    return MigrationContext.configure(connection).get_current_revision()


def apply_migrations(connection: Connection) -> None:
    """Upgrade within the caller's transaction, so that an interrupted upgrade leaves the old schema.

    Raises StoreError for a database that a newer release wrote.
    """
    config = _build_config()
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise StoreError(f"the database was written by another release: {error}") from error


def _build_config() -> Config:
    config = Config()
    # A package path, so that the revisions are found in an installed wheel too.
    config.set_main_option("script_location", "chain:migrations")
    config.set_main_option("path_separator", "os")
    return config
