"""Every bound on what a peer may send, ask for or cost, in one place.

The table has a row for each message (a test holds it to that); the constants bound what outlives a message.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from consensus.block import HEADER_BYTES, BlockLimits
from consensus.transaction import SIGNED_BYTES


class Message(StrEnum):
    """Every request that peers make of each other."""

    HANDSHAKE = "handshake"
    HEADERS = "headers"
    BLOCK = "block"
    ANNOUNCE = "announce"
    PUSH_TRANSACTIONS = "push-transactions"
    GET_TRANSACTIONS = "get-transactions"
    ADDRESSES = "addresses"


@dataclass(frozen=True, slots=True)
class MessageLimits:
    """What one message may cost: enforced on requests by the answering node, on answers by the asking one."""

    request_bytes: int
    """Length of a request's body."""
    answer_bytes: int
    """Length of an answer's body."""
    per_second: float
    """Requests of one peer, in the long run."""
    burst: int
    """Requests of one peer at once after a pause."""
    in_flight: int
    """Requests of one peer that are answered at the same time."""
    answer_seconds: float
    """A request that is not answered by then has failed."""


LimitTable = Mapping[Message, MessageLimits]

BODY_SECONDS = 30.0
"""The longest time that a request's body may take to arrive, over REST too: its sender holds a place."""
MAX_HEADERS = 2_000
"""Headers of one answer."""
MAX_LOCATOR = 101
"""Ids of one locator: enough for any height below 2^64."""
MAX_PUSHED_TRANSFERS = 64
"""Transfers of one push."""
MAX_LISTED_TRANSFERS = 2_000
"""Transfers of one listing of a mempool."""
MAX_ADDRESSES = 100
"""URLs of one answer."""
MAX_URL_CHARACTERS = 256
"""Length of a URL."""

MAX_CLAIMED_HEADERS = 20_000
"""Unverified headers kept of one peer, about 10 MB. No branch that forked off deeper can win here."""
MAX_SIDE_EVALUATIONS = MAX_CLAIMED_HEADERS
"""Blocks of one peer evaluated in a row without moving the tip."""
MAX_SESSIONS = 256
"""Peers that may ask; the one that was silent longest goes first."""
MAX_KNOWN_ADDRESSES = 1_000
"""URLs remembered."""
MAX_BARRED = 1_000
"""Hosts and node ids refused at once; the oldest is forgotten first."""
MAX_OUTBOX_BLOCKS = 64
"""Announcements that wait for one peer; the oldest is dropped first."""
MAX_OUTBOX_TRANSFERS = 2_000
"""Transfers that wait for one peer; the oldest is dropped first."""
MAX_REMEMBERED_IDS = 10_000
"""Ids that one peer is known to have."""
MAX_WITNESS_PEERS = 4
"""Peers asked for the witness that a block commits to."""
MAX_PEERS_PER_HOST = 3
"""Peers connected with at one address or IPv6 /64, beside the configured ones and those on this machine."""
MAX_DIALS = 8
"""Dials under way at once."""


def build_limits(block: BlockLimits) -> LimitTable:
    """The table for a chain whose blocks are bounded by `block`."""
    block_bytes = block.max_block_bytes
    # A peer on a line of 64 KiB/s may still send the longest block.
    block_seconds = 10.0 + block_bytes / 65_536
    row = MessageLimits
    # request bytes, answer bytes, requests a second, burst, in flight, seconds to answer
    return {
        Message.HANDSHAKE: row(1_024, 1_024, 2.0, 60, 4, 5.0),
        Message.HEADERS: row(8_192, MAX_HEADERS * HEADER_BYTES, 20.0, 100, 2, 15.0),
        Message.BLOCK: row(0, block_bytes, 100.0, 200, 4, block_seconds),
        Message.ANNOUNCE: row(256, 1_024, 50.0, 400, 8, 5.0),
        Message.PUSH_TRANSACTIONS: row(MAX_PUSHED_TRANSFERS * SIGNED_BYTES, 1_024, 10.0, 100, 2, 10.0),
        Message.GET_TRANSACTIONS: row(0, MAX_LISTED_TRANSFERS * SIGNED_BYTES, 1.0, 20, 1, 15.0),
        Message.ADDRESSES: row(0, 32_768, 1.0, 20, 1, 5.0),
    }
