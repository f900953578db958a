"""How a command fails: an exception with the exit code and the one line that the user reads.

Codes: 0 done, 1 failed, 2 usage (typer's own), 3 node unreachable. What the system refuses (OSError) is the
root's to tell, with code 1.
"""

from __future__ import annotations


class CommandError(Exception):
    """A command cannot do what was asked; its text is the one line for stderr."""

    exit_code = 1


class UsageError(CommandError):
    """The arguments contradict each other or what is on disk."""

    exit_code = 2


class NodeUnreachable(CommandError):
    """No node answers at the given URL."""

    exit_code = 3
