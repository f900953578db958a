"""The messages of /p2p/v1 and their bytes.

    POST handshake      Hello → Hello                                       JSON
    POST headers        Locator → up to 2,000 headers above it              JSON → 190 bytes each
    GET  blocks/{id}    → the block; with ?witness=HASH, with that witness  the bytes of protocol §4
    POST announce       Announcement → nothing: come and get it             JSON
    GET  transactions   → transfers of the mempool, in order of arrival     186 bytes each
    POST transactions   up to 64 transfers → nothing                        186 bytes each
    GET  addresses      → Addresses                                         JSON

Every request but the handshake carries the sender's node id in `X-FreezeNet-Node`; it counts only together
with the address that shook hands under it. Refusals are problem+json with a `code` of node.p2p.errors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from consensus.block import HEADER_BYTES, Header, decode_header, encode_header
from consensus.encoding import U32_MAX
from consensus.errors import BadDelivery, Code
from consensus.transaction import SIGNED_BYTES, SignedTransfer, decode_signed, encode_signed
from node.p2p.limits import MAX_ADDRESSES, MAX_LOCATOR, MAX_URL_CHARACTERS, Message

PROTOCOL = 1
PREFIX = "/p2p/v1"
NODE_HEADER = "X-FreezeNet-Node"
OCTETS = "application/octet-stream"

ROUTES: dict[Message, tuple[str, str]] = {
    Message.HANDSHAKE: ("POST", "/handshake"),
    Message.HEADERS: ("POST", "/headers"),
    Message.BLOCK: ("GET", "/blocks/{block_id}"),
    Message.ANNOUNCE: ("POST", "/announce"),
    Message.GET_TRANSACTIONS: ("GET", "/transactions"),
    Message.PUSH_TRANSACTIONS: ("POST", "/transactions"),
    Message.ADDRESSES: ("GET", "/addresses"),
}
"""Method and path, below the prefix, of each message."""

HashText = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
NodeIdText = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
UrlText = Annotated[str, Field(max_length=MAX_URL_CHARACTERS)]


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Hello(_Message):
    """Who is there: the same fields in both directions."""

    protocol: int
    chain_id: HashText
    node_id: NodeIdText
    listen_url: UrlText | None
    height: Annotated[int, Field(ge=0, le=U32_MAX)]


class Locator(_Message):
    """Ids of blocks that the sender has or heard of, the newest first and ever sparser."""

    locator: Annotated[list[HashText], Field(min_length=1, max_length=MAX_LOCATOR)]


class Announcement(_Message):
    """A block that joined the sender's active chain."""

    kind: Literal["block"]
    id: HashText


class Addresses(_Message):
    """URLs of nodes that the sender is connected with."""

    addresses: Annotated[list[UrlText], Field(max_length=MAX_ADDRESSES)]


def encode_headers(headers: Sequence[Header]) -> bytes:
    """Headers, concatenated."""
    return b"".join(encode_header(header) for header in headers)


def decode_headers(data: bytes) -> list[Header]:
    """The headers in exactly these bytes. Raises BadDelivery(UNDECODABLE)."""
    return [decode_header(piece) for piece in _cut(data, HEADER_BYTES)]


def encode_transfers(transfers: Sequence[SignedTransfer]) -> bytes:
    """Signed transfers, concatenated."""
    return b"".join(encode_signed(signed) for signed in transfers)


def decode_transfers(data: bytes) -> list[SignedTransfer]:
    """The signed transfers in exactly these bytes. Raises BadDelivery(UNDECODABLE)."""
    return [decode_signed(piece) for piece in _cut(data, SIGNED_BYTES)]


def _cut(data: bytes, size: int) -> Iterator[bytes]:
    if len(data) % size:
        raise BadDelivery(Code.UNDECODABLE, f"{len(data)} bytes are no multiple of {size}")
    return (data[start : start + size] for start in range(0, len(data), size))
