"""Alembic environment of the chain store."""
