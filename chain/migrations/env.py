"""Run by alembic: applies the revisions over the connection that chain.store hands in."""

from __future__ import annotations

from alembic import context

from chain.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # SQLite cannot alter most of a table: batches rebuild it instead.
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
