"""What an operator or a test may set about peers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PeerSettings:
    """How one node deals with its peers."""

    node_id: str
    """32 lower-case hex digits that tell this node from every other."""
    listen_url: str | None
    """URL under which peers reach this node; None where they cannot."""
    peers: tuple[str, ...] = ()
    """URLs to stay connected with: configured, so never barred."""
    allow_private_peers: bool = False
    """Whether URLs learnt from others may lead to private addresses."""
    outbound_target: int = 8
    """Connections that this node seeks by itself beside the configured ones."""
    max_peers: int = 24
    """Connections at most, with those that answer a stranger's handshake."""
    poll_seconds: float = 5.0
    """A peer that says nothing new is asked after this time."""
    redial_seconds: float = 1.0
    """Wait after the first failure; doubled by each further one."""
    max_redial_seconds: float = 60.0
    """The longest wait between two dials of one peer."""
    stall_seconds: float = 3.0
    """A block or witness that is not here after this time is asked of another peer too."""
    bar_seconds: float = 3600.0
    """How long a liar is refused."""
