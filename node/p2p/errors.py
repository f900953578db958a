"""What can go wrong between peers.

Exception
├── PeerError
│   ├── PeerUnreachable   no answer, or none in time
│   ├── PeerRefused       the peer answered that it will not
│   └── PeerLied          the peer sent what cannot be true: the relation ends
└── Refusal               this node will not answer a request
"""

from __future__ import annotations

from enum import Enum


class PeerCode(Enum):
    """Why a node refuses a peer's request, with the status and a line saying exactly when."""

    HANDSHAKE_REQUIRED = ("handshake-required", 401, "the sender has not shaken hands with this node")
    PARTITIONED = ("partitioned", 403, "the operator cut this node off from the sender")
    BARRED = ("barred", 403, "the sender lied here before and is refused for a time")
    OTHER_PROTOCOL = ("other-protocol", 409, "the sender speaks another version of the protocol")
    OTHER_CHAIN = ("other-chain", 409, "the sender is on another chain")
    UNDECODABLE = ("undecodable", 400, "the request is not of the form that the message has")
    TOO_SLOW = ("too-slow", 408, "the request's body did not arrive in time")
    TOO_LARGE = ("too-large", 413, "the request is longer than the message may be")
    TOO_MANY_REQUESTS = ("too-many-requests", 429, "the sender asks more often than the message allows")
    UNKNOWN_BLOCK = ("unknown-block", 404, "this node does not have the block")
    UNKNOWN_WITNESS = ("unknown-witness", 404, "this node does not have that witness of the block")
    FALSE_TRANSFER = ("false-transfer", 422, "a pushed transfer can never be valid on this chain")

    def __init__(self, text: str, status: int, when: str) -> None:
        self.text = text
        self.status = status
        self.when = when

    def __str__(self) -> str:
        return self.text


class Refusal(Exception):
    """This node will not answer a request."""

    def __init__(self, code: PeerCode, detail: str = "", retry_after_seconds: float | None = None) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail
        self.retry_after_seconds = retry_after_seconds


class PeerError(Exception):
    """Something is wrong with a peer, or with the way to it."""


class PeerUnreachable(PeerError):
    """No answer, or none in time."""


class PeerRefused(PeerError):
    """The peer answered that it will not; `code` is its reason."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(f"refused with {status} {code}")
        self.status = status
        self.code = code


class PeerLied(PeerError):
    """The peer sent what cannot be true; `code` says what."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code = code
