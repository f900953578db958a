"""Headers, witnesses and blocks: canonical bytes and ids (protocol §4)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from consensus.encoding import Hash32, Height, Reader, compute_tagged_hash, pack
from consensus.errors import BadDelivery, Code
from consensus.transaction import SignedTransfer, encode_signed, read_signed

_HEADER = struct.Struct("<HI32s32sQ32s32sQ32sQ")
_WITNESS_HEAD = struct.Struct("<III")
_COUNT = struct.Struct("<I")
HEADER_BYTES = _HEADER.size
HEADER_VERSION = 1


@dataclass(frozen=True, slots=True)
class Header:
    """The candidate block bytes of the paper: what the watermark binds a network to."""

    version: int
    """u16, 1."""
    height: Height
    """u32, the parent's plus one."""
    parent: Hash32
    """Id of the parent."""
    parent_witness: Hash32
    """Id of a verified witness of the parent; zero for the child of genesis."""
    timestamp: int
    """u64, Unix seconds."""
    transactions_root: Hash32
    """Merkle root of the transfers' ids."""
    miner: bytes
    """Ed25519 key to credit, 32 bytes, any."""
    difficulty: int
    """u64, as §9 requires."""
    task_id: Hash32
    """Id of the chain's task."""
    nonce: int
    """u64, free: each value is another watermark."""

    @property
    def block_id(self) -> Hash32:
        """H("FreezeNet/1/block", header)."""
        return compute_tagged_hash("FreezeNet/1/block", encode_header(self))


@dataclass(frozen=True, slots=True)
class Witness:
    """The proof that a header's work was done."""

    train_correct: int
    """u32, claimed count of right train records."""
    eval_correct: int
    """u32, claimed count of right eval records."""
    solution: bytes
    """Encoded `consensus.solution.Solution`."""

    @property
    def witness_id(self) -> Hash32:
        """H("FreezeNet/1/witness", witness): what a child's parent_witness commits to."""
        return compute_tagged_hash("FreezeNet/1/witness", encode_witness(self))


@dataclass(frozen=True, slots=True)
class Block:
    """A header with its transfers and witness; genesis alone has no witness."""

    header: Header
    transfers: tuple[SignedTransfer, ...]
    witness: Witness | None
    """None at height 0, and only there."""


@dataclass(frozen=True, slots=True)
class BlockLimits:
    """What bounds a block's size on one chain."""

    max_transactions: int
    """Transfers of a block."""
    max_solution_bytes: int
    """Length of the longest solution of any rung."""

    @property
    def max_block_bytes(self) -> int:
        """No block of this chain is longer."""
        return HEADER_BYTES + 4 + 186 * self.max_transactions + _WITNESS_HEAD.size + self.max_solution_bytes


def encode_header(header: Header) -> bytes:
    """The 190 bytes of a header. Raises ValueError if a field is out of range."""
    h = header
    return pack(
        _HEADER,
        h.version,
        h.height,
        h.parent,
        h.parent_witness,
        h.timestamp,
        h.transactions_root,
        h.miner,
        h.difficulty,
        h.task_id,
        h.nonce,
    )


def decode_header(data: bytes) -> Header:
    """The header in exactly these bytes. Raises BadDelivery(UNDECODABLE)."""
    reader = Reader(data)
    header = Header(*reader.unpack(_HEADER))
    reader.finish()
    return header


def encode_witness(witness: Witness) -> bytes:
    """train_correct ‖ eval_correct ‖ length ‖ solution."""
    head = pack(_WITNESS_HEAD, witness.train_correct, witness.eval_correct, len(witness.solution))
    return head + witness.solution


def decode_witness(data: bytes, limits: BlockLimits) -> Witness:
    """The witness in exactly these bytes. Raises BadDelivery with UNDECODABLE or TOO_LARGE."""
    return _read_last_witness(Reader(data), limits)


def encode_block(block: Block) -> bytes:
    """header ‖ count ‖ signed transfers ‖ witness; at height 0 a count of 0 and nothing after it.

    Raises ValueError where the height does not allow the transfers or the witness, or lacks one.
    """
    if (block.header.height == 0) != (block.witness is None) or (block.witness is None and block.transfers):
        raise ValueError("a block of height 0, and no other, has neither transfers nor a witness")
    parts = [encode_header(block.header), pack(_COUNT, len(block.transfers))]
    parts += [encode_signed(signed) for signed in block.transfers]
    if block.witness is not None:
        parts.append(encode_witness(block.witness))
    return b"".join(parts)


def decode_block(data: bytes, limits: BlockLimits) -> Block:
    """The block in exactly these bytes; lengths are checked before memory is taken.

    Raises BadDelivery with UNDECODABLE or TOO_LARGE.
    """
    reader = Reader(data)
    header = Header(*reader.unpack(_HEADER))
    count = reader.take_u32()
    if header.height == 0:
        if count:
            raise BadDelivery(Code.UNDECODABLE, f"{count} transfers at height 0")
        reader.finish()
        return Block(header, (), None)
    if count > limits.max_transactions:
        raise BadDelivery(Code.TOO_LARGE, f"{count} transfers, at most {limits.max_transactions}")
    transfers = tuple(read_signed(reader) for _ in range(count))
    return Block(header, transfers, _read_last_witness(reader, limits))


def _read_last_witness(reader: Reader, limits: BlockLimits) -> Witness:
    train_correct, eval_correct, length = reader.unpack(_WITNESS_HEAD)
    if length > limits.max_solution_bytes:
        raise BadDelivery(
            Code.TOO_LARGE, f"a solution of {length} bytes, at most {limits.max_solution_bytes}"
        )
    solution = reader.take(length)
    reader.finish()
    return Witness(train_correct, eval_correct, solution)
