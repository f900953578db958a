"""What stops a devnet, in one line for the operator."""

from __future__ import annotations


class DevnetError(Exception):
    """The devnet cannot start, go on or be found; its text says why and, where one can, what to do."""


class DevnetUnreachable(DevnetError):
    """A node of the devnet does not answer."""
