"""Verify a FreezeNet chain from the text of the protocol alone: `independent_verifier.py --node URL`.

Owns a second reading of docs/protocol.md, from the bytes of the parameters to the balances after the last
block. It shares no line with the packages, so that a mistake in either shows as a disagreement: a test fails
if it imports one of them. It needs numpy, cryptography and the standard library. The sections follow those of
the protocol. It leaves fork choice, relaying and putting off to the node: here is one chain, right or wrong.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import string
import struct
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from numpy.typing import NDArray

Say = Callable[[str], None]
ByteArray = NDArray[np.uint8]
WeightArray = NDArray[np.int8]
ExactArray = NDArray[np.float64]


class Stage(StrEnum):
    """Where a check failed."""

    DATASET = "dataset"
    TASK = "task"
    PARAMS = "params"
    DECODING = "decoding"
    PARENT = "parent"
    HEIGHT = "height"
    VERSION = "version"
    TASK_ID = "task-id"
    TIMESTAMP = "timestamp"
    DIFFICULTY = "difficulty"
    FUTURE = "future"
    CLAIMS = "claims"
    TRANSACTIONS_ROOT = "transactions-root"
    SIGNATURE = "signature"
    LEDGER = "ledger"
    SOLUTION = "solution"
    COUNTS = "counts"
    PARENT_WITNESS = "parent-witness"
    NODE = "node"
    VECTOR = "vector"


class Refused(Exception):
    """A rule does not hold; carries the stage that failed and a sentence with the values."""

    def __init__(self, stage: Stage, detail: str) -> None:
        super().__init__(f"{stage}: {detail}")
        self.stage = stage
        self.detail = detail


def check(holds: bool, stage: Stage, detail: str) -> None:
    """Raise Refused unless the condition holds."""
    if not holds:
        raise Refused(stage, detail)


# ----------------------------------------------------------------------------------------- conventions


def tagged_hash(tag: str, data: bytes) -> bytes:
    """H(tag, data): 32 bytes."""
    name = tag.encode("ascii")
    return hashlib.sha256(bytes([len(name)]) + name + data).digest()


class Reader:
    """Takes fields off the front of a byte string and refuses a string that is too short or too long.

    Every field has one fixed layout and every byte is consumed, so what decodes re-encodes to the same bytes.
    """

    def __init__(self, data: bytes, stage: Stage) -> None:
        self._data, self._stage, self._at = data, stage, 0

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        left = len(self._data) - self._at
        check(size <= left, self._stage, f"{size} bytes wanted at offset {self._at}, {left} left")
        self._at += size
        return self._data[self._at - size : self._at]

    def fields(self, layout: struct.Struct) -> tuple[Any, ...]:
        """The next fields of a little-endian layout."""
        return layout.unpack(self.take(layout.size))

    def unsigned(self, size: int) -> int:
        """The next little-endian unsigned integer of `size` bytes."""
        return int.from_bytes(self.take(size), "little")

    def finish(self) -> None:
        """Refuse bytes that nothing consumed."""
        left = len(self._data) - self._at
        check(left == 0, self._stage, f"{left} bytes too many")


def merkle_leaf(data: bytes) -> bytes:
    """RFC 6962 leaf hash."""
    return hashlib.sha256(b"\x00" + data).digest()


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """RFC 6962 root over leaf hashes: the left half is the largest power of two below their number."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    left = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + merkle_root(leaves[:left]) + merkle_root(leaves[left:])).digest()


# ------------------------------------------------------------------------------------------- 1 dataset

CHUNK_BYTES = 1_048_576
DESCRIPTION = struct.Struct("<HHHHII32s32s")


class Description(NamedTuple):
    """The 80 bytes that name a dataset."""

    c: int
    h: int
    w: int
    classes: int
    n_train: int
    n_eval: int
    train_root: bytes
    eval_root: bytes

    @property
    def dataset_id(self) -> bytes:
        return tagged_hash("FreezeNet/1/dataset", DESCRIPTION.pack(*self))

    @property
    def record_bytes(self) -> int:
        return 1 + self.c * self.h * self.w


@dataclass(frozen=True, slots=True)
class Split:
    """The records of one split: labels u8[n] and pixels u8[n, c, h, w]."""

    labels: ByteArray
    pixels: ByteArray


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset whose bytes were checked against its description."""

    description: Description
    train: Split
    eval: Split


def decode_description(data: bytes) -> Description:
    """Decode dataset_bytes and check what can be checked without the records."""
    reader = Reader(data, Stage.DATASET)
    found = Description(*reader.fields(DESCRIPTION))
    reader.finish()
    check(found.c >= 1, Stage.DATASET, "no channel")
    check(2 <= found.classes <= 256, Stage.DATASET, f"{found.classes} classes")
    check(found.n_train > 0 and found.n_eval > 0, Stage.DATASET, "a split is empty")
    return found


def split_root(data: bytes) -> bytes:
    """Merkle root of the chunks of a split."""
    chunks = range(0, len(data), CHUNK_BYTES)
    return merkle_root([merkle_leaf(data[at : at + CHUNK_BYTES]) for at in chunks])


def decode_split(found: Description, records: int, root: bytes, data: bytes) -> Split:
    """Check the bytes of a split against its size, its root and the range of its labels."""
    size = records * found.record_bytes
    check(len(data) == size, Stage.DATASET, f"a split of {len(data)} bytes, its description says {size}")
    check(split_root(data) == root, Stage.DATASET, "a split's bytes do not give its root")
    rows = np.frombuffer(data, np.uint8).reshape(records, found.record_bytes)
    check(int(rows[:, 0].max()) < found.classes, Stage.DATASET, "a label is not below the number of classes")
    return Split(rows[:, 0], rows[:, 1:].reshape(records, found.c, found.h, found.w))


def decode_dataset(description: bytes, train: bytes, evaluation: bytes) -> Dataset:
    """Decode a dataset from its description and the bytes of both splits."""
    found = decode_description(description)
    return Dataset(
        found,
        decode_split(found, found.n_train, found.train_root, train),
        decode_split(found, found.n_eval, found.eval_root, evaluation),
    )


def decode_dataset_file(data: bytes) -> Dataset:
    """Decode the one-file form: dataset_bytes ‖ train ‖ eval."""
    found = decode_description(data[: DESCRIPTION.size])
    end = DESCRIPTION.size + found.n_train * found.record_bytes
    return decode_dataset(data[: DESCRIPTION.size], data[DESCRIPTION.size : end], data[end:])


# ------------------------------------------------------------------------------------------- 2 network

MOST_INPUTS = 16_640
MOST_WEIGHTS = 1 << 26
MOST_BLOCKS = 8
LIMIT_M = 1 << 24
LIMIT_B = 1 << 52
LIMIT_BIAS = 1 << 30


class Layer(NamedTuple):
    """A convolution (kernel 3) or a dense layer (kernel 1)."""

    outputs: int
    inputs: int
    kernel: int

    @property
    def fan_in(self) -> int:
        return self.inputs * self.kernel**2

    @property
    def size(self) -> int:
        return self.outputs * self.fan_in


class Network(NamedTuple):
    """The paper's network by its seven numbers."""

    c: int
    h: int
    w: int
    classes: int
    blocks: int
    filters: int
    hidden: int

    @property
    def layers(self) -> tuple[Layer, ...]:
        """All layers in the order in which they are applied; all but the last are normalised."""
        found, channels = [], self.c
        for block in range(self.blocks):
            outputs = self.filters << block
            found += [Layer(outputs, channels, 3), Layer(outputs, outputs, 3)]
            channels = outputs
        flat = channels * (self.h >> self.blocks) * (self.w >> self.blocks)
        return (*found, Layer(self.hidden, flat, 1), Layer(self.classes, self.hidden, 1))

    @property
    def weights(self) -> int:
        """N, the number of weights."""
        return sum(layer.size for layer in self.layers)

    @property
    def solution_bytes_beside_weights(self) -> int:
        """Size of M, B and the bias in a solution."""
        return 12 * sum(layer.outputs for layer in self.layers[:-1]) + 4 * self.classes


def check_network(network: Network) -> None:
    """Refuse a network that §2 does not allow."""
    check(min(network) >= 1, Stage.TASK, "a network of which one number is 0")
    check(network.blocks <= MOST_BLOCKS, Stage.TASK, f"{network.blocks} blocks")
    check(min(network.h, network.w) >= 1 << network.blocks, Stage.TASK, "an image too small for the blocks")
    inputs = max(layer.fan_in for layer in network.layers)
    check(inputs <= MOST_INPUTS, Stage.TASK, f"an output with {inputs} inputs")
    check(network.weights <= MOST_WEIGHTS, Stage.TASK, f"{network.weights} weights")


class Norm(NamedTuple):
    """M and B of one normalised layer, as float64[outputs], which holds them exactly."""

    m: ExactArray
    b: ExactArray


def compute_layer_weights(network: Network, weights: WeightArray) -> list[ExactArray]:
    """Cut i8[N] into a float64[fan_in, outputs] per layer; fan-in runs over (kernel row, column, input)."""
    cut, at = [], 0
    for layer in network.layers:
        block = weights[at : at + layer.size].reshape(layer.outputs, layer.inputs, layer.kernel, layer.kernel)
        cut.append(block.transpose(2, 3, 1, 0).reshape(layer.fan_in, layer.outputs).astype(np.float64))
        at += layer.size
    return cut


def convolve(a: ExactArray, weights: ExactArray) -> ExactArray:
    """3×3 cross-correlation with padding 1: [n, h, w, in] → [n, h, w, out]."""
    h, w = a.shape[1:3]
    padded = np.pad(a, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = [padded[:, r : r + h, s : s + w] for r in range(3) for s in range(3)]
    return np.concatenate(windows, axis=3) @ weights


def normalise(acc: ExactArray, norm: Norm) -> ExactArray:
    """clamp((acc·M + B + 2^23) >> 24, 0, 127) along the last axis; the floor is the arithmetic shift."""
    return np.clip(np.floor((acc * norm.m + norm.b + 2.0**23) * 2.0**-24), 0, 127)


def pool(a: ExactArray) -> ExactArray:
    """2×2 max-pool, stride 2, of [n, h, w, channels]; an odd last row or column is dropped."""
    h, w = a.shape[1] // 2 * 2, a.shape[2] // 2 * 2
    rows = np.maximum(a[:, 0:h:2, :w], a[:, 1:h:2, :w])
    return np.maximum(rows[:, :, 0::2], rows[:, :, 1::2])


def compute_logits(
    layers: list[ExactArray], norms: Sequence[Norm], bias: ExactArray, pixels: ByteArray
) -> ExactArray:
    """Logits float64[n, classes] of pixels u8[n, c, h, w].

    Exact: every value in here is an integer of magnitude below 2^53. Activations are in 0..127 and weights in
    -127..127, so any partial sum of a product, in any order and fused or not, is below 127·127·16,640 < 2^28;
    M < 2^24 and |B| ≤ 2^52 keep acc·M + B + 2^23 below 2^53 (§2); times 2^-24 moves the exponent alone.
    """
    a = (pixels >> 1).transpose(0, 2, 3, 1).astype(np.float64)
    for at in range(0, len(layers) - 2, 2):
        a = normalise(convolve(a, layers[at]), norms[at])
        a = pool(normalise(convolve(a, layers[at + 1]), norms[at + 1]))
    flat = a.transpose(0, 3, 1, 2).reshape(len(a), -1)
    return normalise(flat @ layers[-2], norms[-1]) @ layers[-1] + bias


def compute_classes(
    network: Network, weights: WeightArray, norms: Sequence[Norm], bias: ExactArray, pixels: ByteArray
) -> NDArray[np.int64]:
    """Predicted classes i64[n]: the lowest index among the largest logits."""
    layers = compute_layer_weights(network, weights)
    batch = max(1, (1 << 22) // (9 * network.filters * network.h * network.w))
    parts = [pixels[at : at + batch] for at in range(0, len(pixels), batch)]
    return np.concatenate([compute_logits(layers, norms, bias, part).argmax(axis=1) for part in parts])


# ---------------------------------------------------------------------------------------------- 3 task

RUNG = struct.Struct("<HIIQ")
TASK = struct.Struct("<32s7HH")


class Rung(NamedTuple):
    """One step of the ladder."""

    frozen: int
    min_train_correct: int
    min_eval_correct: int
    work: int


@dataclass(frozen=True, slots=True)
class Task:
    """Dataset, network and ladder."""

    task_id: bytes
    dataset_id: bytes
    network: Network
    rungs: tuple[Rung, ...]

    def compute_frozen_count(self, rung: Rung) -> int:
        return self.network.weights * rung.frozen // 10_000

    def compute_solution_bytes(self, rung: Rung) -> int:
        """The one length that a solution of this rung can have."""
        free = self.network.weights - self.compute_frozen_count(rung)
        return free + self.network.solution_bytes_beside_weights

    def compute_rung_index(self, difficulty: int) -> int:
        """Index of the last rung whose work is at most the difficulty."""
        return sum(rung.work <= difficulty for rung in self.rungs) - 1


def decode_task(data: bytes) -> Task:
    """Decode task_bytes and check what does not depend on the dataset."""
    reader = Reader(data, Stage.TASK)
    dataset_id, *numbers, count = reader.fields(TASK)
    rungs = tuple(Rung(*reader.fields(RUNG)) for _ in range(count))
    reader.finish()
    task = Task(tagged_hash("FreezeNet/1/task", data), dataset_id, Network(*numbers), rungs)
    check_network(task.network)
    check_ladder(task)
    return task


def check_ladder(task: Task) -> None:
    """Refuse a ladder that §3 does not allow, as far as the dataset does not matter."""
    check(1 <= len(task.rungs) <= 256, Stage.TASK, f"{len(task.rungs)} rungs")
    for rung in task.rungs:
        check(1_000 <= rung.work < 1 << 56, Stage.TASK, f"work {rung.work}")
        check(1_000 <= rung.frozen <= 9_990, Stage.TASK, f"frozen {rung.frozen}")
        check(task.compute_frozen_count(rung) >= 1_024, Stage.TASK, "fewer than 1,024 frozen weights")
    for below, rung in zip(task.rungs, task.rungs[1:], strict=False):
        check(below.work < rung.work <= 2 * below.work, Stage.TASK, f"work {rung.work} after {below.work}")


def check_task_fits(task: Task, found: Description) -> None:
    """Refuse a task that is not one for this dataset."""
    check(task.dataset_id == found.dataset_id, Stage.TASK, "the task names another dataset")
    check(task.network[:4] == found[:4], Stage.TASK, "the network's shape is not the dataset's")
    for rung in task.rungs:
        check(100 * rung.min_train_correct <= 99 * found.n_train, Stage.TASK, "a train target above 99 %")
        check(rung.min_eval_correct <= found.n_eval, Stage.TASK, "an eval target above the split")


# ------------------------------------------------------------------------- 4 header, witness and block

HEADER = struct.Struct("<HI32s32sQ32s32sQ32sQ")
WITNESS = struct.Struct("<III")
ZERO = bytes(32)


class Header(NamedTuple):
    """The 190 bytes that a block's work is done for."""

    version: int
    height: int
    parent: bytes
    parent_witness: bytes
    timestamp: int
    transactions_root: bytes
    miner: bytes
    difficulty: int
    task_id: bytes
    nonce: int

    def encode(self) -> bytes:
        return HEADER.pack(*self)

    @property
    def block_id(self) -> bytes:
        return tagged_hash("FreezeNet/1/block", self.encode())


class Witness(NamedTuple):
    """The proof that the header's work was done."""

    train_correct: int
    eval_correct: int
    solution: bytes

    def encode(self) -> bytes:
        return WITNESS.pack(self.train_correct, self.eval_correct, len(self.solution)) + self.solution

    @property
    def witness_hash(self) -> bytes:
        return tagged_hash("FreezeNet/1/witness", self.encode())


class Block(NamedTuple):
    """A block above genesis; transfers are still the signed bytes."""

    header: Header
    signed: tuple[bytes, ...]
    witness: Witness

    def encode(self) -> bytes:
        count = struct.pack("<I", len(self.signed))
        return self.header.encode() + count + b"".join(self.signed) + self.witness.encode()


def decode_block(raw: bytes, max_transactions: int, longest_solution: int) -> Block:
    """Decode a block above genesis; sizes are refused before anything of that size is read."""
    reader = Reader(raw, Stage.DECODING)
    header = Header(*reader.fields(HEADER))
    count = reader.unsigned(4)
    check(count <= max_transactions, Stage.DECODING, f"{count} transfers, at most {max_transactions}")
    signed = tuple(reader.take(SIGNED_BYTES) for _ in range(count))
    train_correct, eval_correct, length = reader.fields(WITNESS)
    check(length <= longest_solution, Stage.DECODING, f"{length} bytes, at most {longest_solution}")
    witness = Witness(train_correct, eval_correct, reader.take(length))
    reader.finish()
    return Block(header, signed, witness)


# ----------------------------------------------------------------------------------------- 5 watermark

REQUEST_BYTES = 65_536
SEED_BITS = 440


def derive(data: bytes) -> int:
    """Hash_df of SP 800-90A §10.3.1 with SHA-256, 440 bits, as a big-endian integer."""
    bits = SEED_BITS.to_bytes(4, "big")
    parts = [hashlib.sha256(bytes([counter]) + bits + data).digest() for counter in (1, 2)]
    return int.from_bytes(b"".join(parts)[: SEED_BITS // 8], "big")


class HashDrbg:
    """Hash_DRBG of SP 800-90A §10.1.1 with SHA-256, without reseeding and without additional input."""

    def __init__(self, entropy: bytes, nonce: bytes, personalisation: bytes) -> None:
        self._v = derive(entropy + nonce + personalisation)
        self._c = derive(b"\x00" + self._encode(self._v))
        self._requests = 1

    @staticmethod
    def _encode(value: int) -> bytes:
        return (value % (1 << SEED_BITS)).to_bytes(SEED_BITS // 8, "big")

    def generate(self, size: int) -> bytes:
        """The bytes of one request."""
        blocks = range(-(-size // 32))
        out = b"".join([hashlib.sha256(self._encode(self._v + block)).digest() for block in blocks])[:size]
        digest = hashlib.sha256(b"\x03" + self._encode(self._v)).digest()
        self._v = (self._v + int.from_bytes(digest, "big") + self._c + self._requests) % (1 << SEED_BITS)
        self._requests += 1
        return out


def compute_frozen_indices(keys: NDArray[np.uint32], frozen_count: int) -> NDArray[np.int64]:
    """Indices i64[frozen_count], increasing, of the smallest pairs (key, index)."""
    # One u64 per pair orders as the pairs do, and no two are equal.
    pairs = keys.astype(np.uint64) << np.uint64(32) | np.arange(len(keys), dtype=np.uint64)
    smallest = np.partition(pairs, frozen_count - 1)[:frozen_count]
    return np.sort((smallest & np.uint64(0xFFFF_FFFF)).astype(np.int64))


def compute_watermark(header: bytes, weights: int, frozen: int) -> tuple[NDArray[np.int64], WeightArray]:
    """Frozen indices i64[frozen] in increasing order and their values i8[frozen]."""
    tag = "FreezeNet/1/watermark"
    drbg = HashDrbg(tagged_hash(tag, header), b"", tag.encode("ascii"))
    stream = bytearray()
    while len(stream) < 4 * weights:
        stream += drbg.generate(REQUEST_BYTES)
    shifted = stream[4 * weights :].translate(None, b"\xff")
    while len(shifted) < frozen:
        shifted += drbg.generate(REQUEST_BYTES).translate(None, b"\xff")
    indices = compute_frozen_indices(np.frombuffer(stream, "<u4", weights), frozen)
    values = np.frombuffer(shifted, np.uint8, frozen).astype(np.int16) - 127
    return indices, values.astype(np.int8)


# ------------------------------------------------------------------------------------------ 6 solution


@dataclass(frozen=True, slots=True)
class Solution:
    """What travels: free weights i8, one Norm per normalised layer, bias float64[classes]."""

    free: WeightArray
    norms: tuple[Norm, ...]
    bias: ExactArray


def decode_norms(network: Network, data: bytes) -> tuple[Norm, ...]:
    """Decode M u32[out] ‖ B i64[out] of every normalised layer and check their ranges."""
    reader, norms = Reader(data, Stage.SOLUTION), []
    for layer in network.layers[:-1]:
        m = np.frombuffer(reader.take(4 * layer.outputs), "<u4")
        b = np.frombuffer(reader.take(8 * layer.outputs), "<i8")
        check(bool((m < LIMIT_M).all()), Stage.SOLUTION, "M is not below 2^24")
        check(bool(((b >= -LIMIT_B) & (b <= LIMIT_B)).all()), Stage.SOLUTION, "B is outside ±2^52")
        norms.append(Norm(m.astype(np.float64), b.astype(np.float64)))
    reader.finish()
    return tuple(norms)


def decode_bias(network: Network, data: bytes) -> ExactArray:
    """Decode bias i32[classes] and check its range."""
    reader = Reader(data, Stage.SOLUTION)
    bias = np.frombuffer(reader.take(4 * network.classes), "<i4")
    reader.finish()
    is_bounded = bool(((bias >= -LIMIT_BIAS) & (bias <= LIMIT_BIAS)).all())
    check(is_bounded, Stage.SOLUTION, "a bias is outside ±2^30")
    return bias.astype(np.float64)


def decode_solution(task: Task, rung: Rung, data: bytes) -> Solution:
    """Decode a solution of this rung and refuse a malformed one."""
    size = task.compute_solution_bytes(rung)
    check(len(data) == size, Stage.SOLUTION, f"{len(data)} bytes, the rung needs {size}")
    network = task.network
    free_end, bias_at = size - network.solution_bytes_beside_weights, size - 4 * network.classes
    free = np.frombuffer(data[:free_end], np.int8)
    check(bool((free != -128).all()), Stage.SOLUTION, "a weight is -128")
    return Solution(free, decode_norms(network, data[free_end:bias_at]), decode_bias(network, data[bias_at:]))


def compute_weights(task: Task, rung: Rung, header: bytes, free: WeightArray) -> WeightArray:
    """All weights i8[N]: the watermark at the frozen indices, the free ones elsewhere in index order."""
    indices, values = compute_watermark(header, task.network.weights, task.compute_frozen_count(rung))
    is_free = np.ones(task.network.weights, np.bool_)
    is_free[indices] = False
    weights = np.empty(task.network.weights, np.int8)
    weights[indices], weights[is_free] = values, free
    return weights


def compute_counts(
    task: Task, rung: Rung, header: bytes, solution: bytes, dataset: Dataset
) -> tuple[int, int]:
    """train_correct and eval_correct of a solution under the watermark of its header."""
    found = decode_solution(task, rung, solution)
    weights = compute_weights(task, rung, header, found.free)
    counts = []
    for split in (dataset.train, dataset.eval):
        classes = compute_classes(task.network, weights, found.norms, found.bias, split.pixels)
        counts.append(int(np.count_nonzero(classes == split.labels)))
    return counts[0], counts[1]


# --------------------------------------------------------------------------- 7 transactions and ledger

SIGNATURE_BYTES = 64
TRANSFER = struct.Struct("<H32s32s32sQQQ")
SIGNED_BYTES = TRANSFER.size + SIGNATURE_BYTES
FIELD = (1 << 255) - 19
EDWARDS_D = -121665 * pow(121666, -1, FIELD) % FIELD
BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


class Transfer(NamedTuple):
    """The 122 signed bytes of a transfer."""

    version: int
    chain_id: bytes
    sender: bytes
    recipient: bytes
    amount: int
    fee: int
    nonce: int

    def encode(self) -> bytes:
        return TRANSFER.pack(*self)


class Account(NamedTuple):
    """What the ledger knows of a key."""

    balance: int = 0
    nonce: int = 0


class Due(NamedTuple):
    """What a miner is still to be credited with."""

    miner: bytes
    amount: int


def compute_transaction_id(signed: bytes) -> bytes:
    """tx_id of the 186 bytes of a signed transfer."""
    return tagged_hash("FreezeNet/1/transaction", signed)


def compute_bech32m_checksum(hrp: str, symbols: Sequence[int]) -> list[int]:
    """The six symbols that BIP 350 appends to an address."""
    state = 1
    prefix = [*(ord(letter) >> 5 for letter in hrp), 0, *(ord(letter) & 31 for letter in hrp)]
    for symbol in [*prefix, *symbols, 0, 0, 0, 0, 0, 0]:
        top, state = state >> 25, (state & 0x1FF_FFFF) << 5 ^ symbol
        for bit, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            state ^= generator if top >> bit & 1 else 0
    return [(state ^ 0x2BC830A3) >> 5 * (5 - at) & 31 for at in range(6)]


def compute_address(key: bytes) -> str:
    """The bech32m address of a public key: 52 symbols of five bits, the last four bits zero."""
    number = int.from_bytes(key, "big") << 4
    symbols = [number >> 5 * (51 - at) & 31 for at in range(52)]
    return "fz1" + "".join(BECH32[symbol] for symbol in symbols + compute_bech32m_checksum("fz", symbols))


def decompress(key: bytes) -> tuple[int, int] | None:
    """The point of a canonical encoding (RFC 8032 §5.1.3), or None."""
    number = int.from_bytes(key, "little")
    y, sign = number & (1 << 255) - 1, number >> 255
    if y >= FIELD:
        return None
    square = (y * y - 1) * pow(EDWARDS_D * y * y + 1, -1, FIELD) % FIELD
    x = pow(square, (FIELD + 3) // 8, FIELD)
    if x * x % FIELD != square:
        x = x * pow(2, (FIELD - 1) // 4, FIELD) % FIELD
    if x * x % FIELD != square or (x == 0 and sign):
        return None
    return (FIELD - x if x & 1 != sign else x), y


def double(point: tuple[int, int]) -> tuple[int, int]:
    """Twice a point of edwards25519 in affine coordinates (the addition law is complete)."""
    x, y = point
    product = EDWARDS_D * x * x * y * y % FIELD
    return (
        2 * x * y * pow(1 + product, -1, FIELD) % FIELD,
        (x * x + y * y) * pow(1 - product, -1, FIELD) % FIELD,
    )


@lru_cache(maxsize=65_536)
def is_acceptable_key(key: bytes) -> bool:
    """Whether a sender's key is a canonical encoding of a point that is not of small order."""
    point = decompress(key)
    return point is not None and double(double(double(point))) != (0, 1)


def is_signature_valid(key: bytes, message: bytes, signature: bytes) -> bool:
    """RFC 8032 §5.1.7 without cofactor, for a key that the protocol accepts.

    OpenSSL refuses S ≥ L and compares the encoding of [S]B - [k]A with R byte for byte; it accepts the keys
    that is_acceptable_key does not. Like every known implementation it reduces k by L first, which makes a
    difference for keys of mixed order alone.
    """
    if not is_acceptable_key(key):
        return False
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def decode_transfer(signed: bytes) -> Transfer:
    """Decode a signed transfer and check its version and its signature."""
    transfer = Transfer(*TRANSFER.unpack(signed[: TRANSFER.size]))
    check(transfer.version == 1, Stage.SIGNATURE, f"a transfer of version {transfer.version}")
    message = tagged_hash("FreezeNet/1/sign", signed[: TRANSFER.size])
    is_valid = is_signature_valid(transfer.sender, message, signed[TRANSFER.size :])
    check(is_valid, Stage.SIGNATURE, f"a signature of {transfer.sender.hex()} does not verify")
    return transfer


def apply_transfer(accounts: dict[bytes, Account], transfer: Transfer, chain_id: bytes) -> None:
    """Check a transfer against the ledger and apply it in place."""
    sender = accounts.get(transfer.sender, Account())
    spent = transfer.amount + transfer.fee
    check(transfer.chain_id == chain_id, Stage.LEDGER, "a transfer of another chain")
    check(
        transfer.nonce == sender.nonce,
        Stage.LEDGER,
        f"nonce {transfer.nonce}, the sender's is {sender.nonce}",
    )
    check(transfer.nonce < (1 << 64) - 1, Stage.LEDGER, "the last nonce")
    check(sender.balance >= spent, Stage.LEDGER, f"{spent} spent, the sender has {sender.balance}")
    accounts[transfer.sender] = Account(sender.balance - spent, sender.nonce + 1)
    apply_credit(accounts, transfer.recipient, transfer.amount)


def apply_credit(accounts: dict[bytes, Account], key: bytes, amount: int) -> None:
    """Credit an account in place."""
    account = accounts.get(key, Account())
    accounts[key] = Account(account.balance + amount, account.nonce)


# ---------------------------------------------------------------------- 8 chain parameters and genesis

PARAMS = struct.Struct("<IIQIIQQ")
NAME_LETTERS = frozenset((string.ascii_lowercase + string.digits + "-").encode("ascii"))


@dataclass(frozen=True, slots=True)
class Params:
    """The parameters of a chain; `encoded` is what they were decoded from."""

    encoded: bytes
    name: str
    accounts: Mapping[bytes, Account]
    task: Task
    target_interval: int
    halving_interval: int
    initial_reward: int
    maturity: int
    max_transactions: int
    genesis_timestamp: int
    initial_difficulty: int

    def compute_reward(self, height: int) -> int:
        halvings = height // self.halving_interval
        return self.initial_reward >> halvings if halvings < 64 else 0

    def compute_genesis(self) -> Header:
        """The header of the genesis block; its id is the chain_id."""
        parent = tagged_hash("FreezeNet/1/params", self.encoded)
        opening = (1, 0, parent, ZERO, self.genesis_timestamp, merkle_root([]), ZERO)
        return Header(*opening, self.initial_difficulty, self.task.task_id, nonce=0)


def decode_params(data: bytes) -> Params:
    """Decode the parameters with the task in them and check every rule but those of the dataset."""
    reader = Reader(data, Stage.PARAMS)
    version = reader.unsigned(2)
    check(version == 1, Stage.PARAMS, f"version {version}")
    name = reader.take(reader.unsigned(1))
    check(1 <= len(name) <= 32 and NAME_LETTERS.issuperset(name), Stage.PARAMS, f"the name {name!r}")
    numbers = reader.fields(PARAMS)
    entries = [(reader.take(32), reader.unsigned(8)) for _ in range(reader.unsigned(4))]
    keys = [key for key, _ in entries]
    check(keys == sorted(set(keys)), Stage.PARAMS, "the keys are not strictly increasing")
    task = decode_task(reader.take(reader.unsigned(4)))
    reader.finish()
    accounts = {key: Account(amount) for key, amount in entries}
    params = Params(data, name.decode("ascii"), accounts, task, *numbers)
    check_params(params)
    return params


def check_params(params: Params) -> None:
    """Refuse parameters that §8 does not allow."""
    check(16 <= params.target_interval < 1 << 24, Stage.PARAMS, f"target interval {params.target_interval}")
    check(params.halving_interval >= 1, Stage.PARAMS, "halving interval 0")
    check(params.maturity >= 1, Stage.PARAMS, "maturity 0")
    check(params.max_transactions <= 65_535, Stage.PARAMS, f"{params.max_transactions} transfers a block")
    supply = sum(account.balance for account in params.accounts.values())
    supply += 2 * params.initial_reward * params.halving_interval
    check(supply < 1 << 63, Stage.PARAMS, "more coins than 2^63")
    rungs = params.task.rungs
    is_on_ladder = rungs[0].work <= params.initial_difficulty <= rungs[-1].work
    check(is_on_ladder, Stage.PARAMS, f"initial difficulty {params.initial_difficulty} off the ladder")


# ------------------------------------------------------------------------ 9 difficulty and fork choice


def compute_difficulty(params: Params, parent: Header, grandparent_timestamp: int | None) -> int:
    """What a child of `parent` must state; no grandparent if the parent is genesis."""
    target = params.target_interval
    took = target
    if grandparent_timestamp is not None:
        took = min(parent.timestamp - grandparent_timestamp, 64 * target)
    wanted = parent.difficulty * (16 * target) // (16 * target - target + took)
    return min(max(wanted, params.task.rungs[0].work), params.task.rungs[-1].work)


def compute_eased(params: Params, parent_timestamp: int, timestamp: int, difficulty: int) -> int:
    """The difficulty whose rung the witness must meet, after a chain stood still."""
    target = params.target_interval
    steps = max(0, timestamp - parent_timestamp - 6 * target) // (2 * target)
    return max(difficulty >> min(steps, 63), params.task.rungs[0].work)


# --------------------------------------------------------------------------------- 10 checking a block


@dataclass(frozen=True, slots=True)
class Chain:
    """What does not change along a chain."""

    params: Params
    dataset: Dataset
    chain_id: bytes

    @property
    def longest_solution(self) -> int:
        return max(map(self.params.task.compute_solution_bytes, self.params.task.rungs))


@dataclass(frozen=True, slots=True)
class Tip:
    """The state after a block: its header and witness, chain work, ledger, and what miners are still due."""

    header: Header
    block_id: bytes
    witness_hash: bytes
    grandparent_timestamp: int | None
    work: int
    accounts: Mapping[bytes, Account]
    dues: Mapping[int, Due]
    report: str


def open_chain(params: bytes, dataset: Dataset) -> tuple[Chain, Tip]:
    """The chain that the parameters define, and its genesis."""
    found = decode_params(params)
    check_task_fits(found.task, dataset.description)
    genesis = found.compute_genesis()
    chain = Chain(found, dataset, genesis.block_id)
    return chain, Tip(genesis, chain.chain_id, ZERO, None, 0, found.accounts, {}, "genesis")


def check_genesis(chain: Chain, raw: bytes) -> None:
    """Refuse bytes that are not the genesis block: its header, count 0 and nothing after it."""
    expected = chain.params.compute_genesis().encode() + bytes(4)
    check(raw == expected, Stage.DECODING, "not the genesis block of these parameters")


def check_header(chain: Chain, tip: Tip, header: Header, now: int) -> None:
    """Check a header against the block below it and the clock."""
    params, target = chain.params, chain.params.target_interval
    parent = tip.header
    check(header.parent == tip.block_id, Stage.PARENT, f"{header.parent.hex()}, not {tip.block_id.hex()}")
    check(header.height == parent.height + 1, Stage.HEIGHT, f"height {header.height} above {parent.height}")
    check(header.version == 1, Stage.VERSION, f"version {header.version}")
    check(header.task_id == params.task.task_id, Stage.TASK_ID, "another task")
    earliest, latest = parent.timestamp + target // 4, now + max(target // 2, 15)
    check(header.timestamp >= earliest, Stage.TIMESTAMP, f"{header.timestamp} is before {earliest}")
    required = compute_difficulty(params, parent, tip.grandparent_timestamp)
    check(header.difficulty == required, Stage.DIFFICULTY, f"{header.difficulty}, required {required}")
    check(header.timestamp <= latest, Stage.FUTURE, f"{header.timestamp} is after {latest}")


def check_claims(chain: Chain, rung: Rung, witness: Witness) -> None:
    """Refuse claims that are below the rung or above the splits."""
    found = chain.dataset.description
    bounds = (
        ("train", rung.min_train_correct, witness.train_correct, found.n_train),
        ("eval", rung.min_eval_correct, witness.eval_correct, found.n_eval),
    )
    for name, least, claim, most in bounds:
        check(least <= claim <= most, Stage.CLAIMS, f"{name} claim {claim}, allowed {least} to {most}")


def apply_transfers(
    chain: Chain, tip: Tip, height: int, transfers: Iterable[Transfer]
) -> tuple[dict[bytes, Account], int]:
    """The ledger after the transfers of a block, and the fees they paid."""
    accounts, fees = dict(tip.accounts), 0
    matured = height - chain.params.maturity
    if matured >= 1:
        apply_credit(accounts, *tip.dues[matured])
    for transfer in transfers:
        apply_transfer(accounts, transfer, chain.chain_id)
        fees += transfer.fee
    return accounts, fees


def check_work(chain: Chain, rung: Rung, block: Block) -> None:
    """Recompute both counts and compare them with the claims."""
    witness = block.witness
    counts = compute_counts(chain.params.task, rung, block.header.encode(), witness.solution, chain.dataset)
    claims = (witness.train_correct, witness.eval_correct)
    check(counts == claims, Stage.COUNTS, f"claims {claims}, recomputed {counts}")


def compute_rung(chain: Chain, tip: Tip, header: Header) -> int:
    """Index of the rung that the witness of a child of `tip` must meet."""
    eased = compute_eased(chain.params, tip.header.timestamp, header.timestamp, header.difficulty)
    return chain.params.task.compute_rung_index(eased)


def check_block(chain: Chain, tip: Tip, raw: bytes, now: int) -> Tip:
    """The state after the block `raw` on top of `tip`, at the time `now` in seconds; raises Refused."""
    block = decode_block(raw, chain.params.max_transactions, chain.longest_solution)
    header, witness = block.header, block.witness
    check_header(chain, tip, header, now)
    rung_index = compute_rung(chain, tip, header)
    rung = chain.params.task.rungs[rung_index]
    check_claims(chain, rung, witness)
    root = merkle_root([merkle_leaf(compute_transaction_id(signed)) for signed in block.signed])
    check(header.transactions_root == root, Stage.TRANSACTIONS_ROOT, f"the transfers give {root.hex()}")
    transfers = [decode_transfer(signed) for signed in block.signed]
    accounts, fees = apply_transfers(chain, tip, header.height, transfers)
    check_work(chain, rung, block)
    is_committed = header.parent_witness == tip.witness_hash
    check(is_committed, Stage.PARENT_WITNESS, f"{header.parent_witness.hex()}, not {tip.witness_hash.hex()}")
    return Tip(
        header=header,
        block_id=header.block_id,
        witness_hash=witness.witness_hash,
        grandparent_timestamp=tip.header.timestamp,
        work=tip.work + rung.work,
        accounts=accounts,
        dues=compute_dues(chain.params, tip, header, fees),
        report=f"rung {rung_index} work {rung.work} train {witness.train_correct} "
        f"eval {witness.eval_correct} transfers {len(transfers)}",
    )


def compute_dues(params: Params, tip: Tip, header: Header, fees: int) -> dict[int, Due]:
    """What miners are due after a block, by height: those that matured in it leave, its own enters."""
    dues = {height: due for height, due in tip.dues.items() if height > header.height - params.maturity}
    return dues | {header.height: Due(header.miner, params.compute_reward(header.height) + fees)}


def iterate_chain(chain: Chain, genesis: Tip, blocks: Iterable[bytes], now: int | None) -> Iterator[Tip]:
    """Verify blocks above genesis by height and yield the state after each; without `now`, by the clock."""
    tip = genesis
    for height, raw in enumerate(blocks, start=1):
        try:
            tip = check_block(chain, tip, raw, int(time.time()) if now is None else now)
        except Refused as refused:
            raise Refused(refused.stage, f"block {height}: {refused.detail}") from refused
        yield tip


# ----------------------------------------------------------------------------------------- a live node

MOST_RESPONSE_BYTES = 1 << 30
ATTEMPTS = 3


class Moved(Exception):
    """The node's chain changed while it was read."""


class Node:
    """Reads a node over REST and believes nothing that it can check."""

    def __init__(self, url: str) -> None:
        self._base = url.rstrip("/") + "/v1"

    def get(self, path: str) -> bytes:
        """The body of an answer."""
        try:
            with urllib.request.urlopen(f"{self._base}{path}", timeout=60) as response:
                body: bytes = response.read(MOST_RESPONSE_BYTES + 1)
        except (urllib.error.URLError, OSError, ValueError) as error:
            raise Refused(Stage.NODE, f"GET {path}: {error}") from error
        check(len(body) <= MOST_RESPONSE_BYTES, Stage.NODE, f"GET {path}: the answer is too large")
        return body

    def get_json(self, path: str) -> dict[str, Any]:
        """The object of an answer."""
        try:
            found = json.loads(self.get(path))
        except ValueError as error:
            raise Refused(Stage.NODE, f"GET {path}: {error}") from error
        check(isinstance(found, dict), Stage.NODE, f"GET {path}: not an object")
        return dict(found)

    def get_block(self, height: int) -> bytes:
        return self.get(f"/blocks/{height}/raw")

    def get_split(self, dataset_id: str, name: str, manifest: Mapping[str, Any]) -> bytes:
        """The bytes of a split; every chunk is compared with the hash that the manifest lists for it."""
        chunks = []
        for index, listed in enumerate(manifest["chunks"]):
            chunk = self.get(f"/datasets/{dataset_id}/{name}/{index}")
            check(merkle_leaf(chunk).hex() == listed, Stage.DATASET, f"chunk {name}/{index} is not as listed")
            chunks.append(chunk)
        size = sum(map(len, chunks))
        check(size == int(manifest["bytes"]), Stage.DATASET, f"{name} has {size} bytes, not as listed")
        return b"".join(chunks)

    def get_dataset(self, description: bytes) -> Dataset:
        """The dataset of a description, verified against it."""
        dataset_id = decode_description(description).dataset_id.hex()
        manifest = self.get_json(f"/datasets/{dataset_id}")
        check(manifest["dataset_hex"] == description.hex(), Stage.DATASET, "a manifest of another dataset")
        splits = [self.get_split(dataset_id, name, manifest[name]) for name in ("train", "eval")]
        return decode_dataset(description, *splits)


def open_node_chain(node: Node) -> tuple[Chain, Tip]:
    """The chain that a node says it is on, with its dataset and its genesis checked."""
    answer = node.get_json("/chain/params")
    params = bytes.fromhex(answer["params_hex"])
    chain, genesis = open_chain(params, node.get_dataset(bytes.fromhex(answer["dataset_hex"])))
    task_id = tagged_hash("FreezeNet/1/task", bytes.fromhex(answer["task_hex"]))
    check(task_id == chain.params.task.task_id, Stage.NODE, "task_hex is not the task of params_hex")
    return chain, genesis


def read_blocks(node: Node, height: int, read: list[bytes]) -> Iterator[bytes]:
    """The blocks 1 to `height` of a node, each also appended to `read`."""
    for at in range(1, height + 1):
        read.append(node.get_block(at))
        yield read[-1]


def has_moved(node: Node, read: Sequence[bytes]) -> bool:
    """Whether the node has replaced one of the last two blocks that were read, or its witness, since."""
    return any(node.get_block(height) != read[height] for height in range(max(1, len(read) - 2), len(read)))


def read_node_chain(node: Node, chain: Chain, genesis: Tip, now: int | None, say: Say) -> Tip:
    """Verify the chain of a node once; raises Moved if that failed because it was replaced meanwhile."""
    stated = node.get_json("/chain")
    tip, read = genesis, [node.get_block(0)]
    check_genesis(chain, read[0])
    blocks = read_blocks(node, int(stated["height"]), read)
    try:
        for tip in iterate_chain(chain, genesis, blocks, now):
            say(f"block {tip.header.height} {tip.block_id.hex()} {tip.report}")
        check(tip.block_id.hex() == stated["tip"], Stage.NODE, f"the node's tip is {stated['tip']}")
    except Refused as refused:
        is_link = refused.stage in (Stage.PARENT, Stage.PARENT_WITNESS, Stage.NODE)
        if is_link and has_moved(node, read):
            raise Moved(str(refused)) from refused
        raise
    work = int(stated["chain_work"])
    check(tip.work == work, Stage.NODE, f"the node states chain work {work}, it is {tip.work}")
    return tip


def verify_node(url: str, now: int | None, say: Say) -> Tip:
    """Verify the whole active chain of a live node and return its tip."""
    node = Node(url)
    try:
        chain, genesis = open_node_chain(node)
        for _ in range(ATTEMPTS):
            try:
                return read_node_chain(node, chain, genesis, now, say)
            except Moved as moved:
                say(f"the node's chain changed while it was read ({moved}); starting again")
    except (KeyError, TypeError, ValueError) as error:
        raise Refused(Stage.NODE, f"an answer lacks something or is malformed: {error!r}") from error
    raise Refused(Stage.NODE, f"the node's chain changed during each of {ATTEMPTS} attempts")


# -------------------------------------------------------------------------------------- golden vectors


def check_equal(name: str, found: object, expected: object) -> None:
    """Refuse a vector whose recomputed value differs."""
    check(found == expected, Stage.VECTOR, f"{name}: recomputed {found}, the vector says {expected}")


def check_chain_vector(vector: Mapping[str, Any]) -> None:
    """chain.json: a whole chain with ids, work and counts, and the ledger after its last block."""
    parts = [bytes.fromhex(vector[name]) for name in ("dataset_hex", "train_hex", "eval_hex")]
    chain, genesis = open_chain(bytes.fromhex(vector["params_hex"]), decode_dataset(*parts))
    task_id = tagged_hash("FreezeNet/1/task", bytes.fromhex(vector["task_hex"]))
    check_equal("task_id", task_id.hex(), chain.params.task.task_id.hex())
    rows = list(vector["blocks"])
    if rows[0]["height"] == 0:
        check_genesis(chain, bytes.fromhex(rows[0]["raw_hex"]))
        check_equal("id", chain.chain_id.hex(), rows.pop(0)["id"])
    tip = genesis
    for row in rows:
        raw = bytes.fromhex(row["raw_hex"])
        timestamp = HEADER.unpack(raw[: HEADER.size])[4]
        tip = check_block(chain, tip, raw, timestamp)
        check_block_row(chain, tip, raw, row)
    check_account_rows(tip, vector["accounts"])


def check_block_row(chain: Chain, tip: Tip, raw: bytes, row: Mapping[str, Any]) -> None:
    """A row of chain.json's blocks, against the state after its block."""
    witness = decode_block(raw, chain.params.max_transactions, chain.longest_solution).witness
    check_equal("id", tip.block_id.hex(), row["id"])
    check_equal("height", tip.header.height, row["height"])
    check_equal("chain_work", str(tip.work), row["chain_work"])
    counts = (row["train_correct"], row["eval_correct"])
    check_equal("counts", (witness.train_correct, witness.eval_correct), counts)


def check_account_rows(tip: Tip, rows: Sequence[Mapping[str, Any]]) -> None:
    """chain.json's accounts; one that is not listed has neither balance nor nonce."""
    listed = {row["key_hex"]: Account(int(row["balance"]), int(row["nonce"])) for row in rows}
    for key in listed.keys() | {key.hex() for key in tip.accounts}:
        found = tip.accounts.get(bytes.fromhex(key), Account())
        check_equal(f"account {key}", found, listed.get(key, Account()))


def check_watermark_vector(vector: Mapping[str, Any]) -> None:
    """One row of watermark.json."""
    header = bytes.fromhex(vector["header_hex"])
    indices, values = compute_watermark(header, vector["weights"], vector["frozen_count"])
    for name, data in (("indices", indices.astype("<u4").tobytes()), ("values", values.tobytes())):
        check_equal(name, hashlib.sha256(data).hexdigest(), vector[f"{name}_sha256"])


def check_transfer_vector(vector: Mapping[str, Any]) -> None:
    """One row of transfers.json."""
    signed = bytes.fromhex(vector["signed_hex"])
    check_equal("size", len(signed), SIGNED_BYTES)
    transfer = decode_transfer(signed)
    check_equal("tx_id", compute_transaction_id(signed).hex(), vector["tx_id"])
    check_equal("sender_address", compute_address(transfer.sender), vector["sender_address"])
    check_equal("recipient_address", compute_address(transfer.recipient), vector["recipient_address"])


def check_merkle_vector(vector: Mapping[str, Any]) -> None:
    """One row of merkle.json."""
    leaves = [merkle_leaf(bytes.fromhex(leaf)) for leaf in vector["leaves_hex"]]
    check_equal("root", merkle_root(leaves).hex(), vector["root"])


def check_evaluation_vector(vector: Mapping[str, Any]) -> None:
    """One row of evaluation.json."""
    network = decode_task(bytes.fromhex(vector["task_hex"])).network
    weights = np.frombuffer(bytes.fromhex(vector["weights_hex"]), np.int8)
    check_equal("number of weights", len(weights), network.weights)
    norms = decode_norms(network, bytes.fromhex(vector["norm_hex"]))
    bias = decode_bias(network, bytes.fromhex(vector["bias_hex"]))
    shape = network[:3]
    rows = np.frombuffer(bytes.fromhex(vector["records_hex"]), np.uint8).reshape(-1, 1 + int(np.prod(shape)))
    pixels = rows[:, 1:].reshape(-1, *shape)
    check_equal("classes", compute_classes(network, weights, norms, bias, pixels).tolist(), vector["classes"])


def check_difficulty_vector(vector: Mapping[str, Any]) -> None:
    """One row of difficulty.json."""
    params = decode_params(bytes.fromhex(vector["params_hex"]))
    stated = {name: int(value) for name, value in vector["parent"].items()}
    genesis = params.compute_genesis()
    parent = genesis._replace(timestamp=stated["timestamp"], difficulty=stated["difficulty"])
    grandparent = vector["grandparent_timestamp"]
    check_equal("grandparent", grandparent is None, stated["height"] == 0)
    difficulty = compute_difficulty(params, parent, None if grandparent is None else int(grandparent))
    eased = compute_eased(params, parent.timestamp, int(vector["timestamp"]), difficulty)
    check_equal("difficulty", str(difficulty), vector["difficulty"])
    check_equal("eased", str(eased), vector["eased"])
    check_equal("rung_index", params.task.compute_rung_index(eased), vector["rung_index"])


VECTOR_CHECKS: dict[str, Callable[[Mapping[str, Any]], None]] = {
    "chain": check_chain_vector,
    "watermark": check_watermark_vector,
    "transfers": check_transfer_vector,
    "merkle": check_merkle_vector,
    "evaluation": check_evaluation_vector,
    "difficulty": check_difficulty_vector,
}


def verify_vectors(directory: Path, say: Say) -> None:
    """Check every golden vector of a directory; a missing file fails."""
    for name, check_row in VECTOR_CHECKS.items():
        try:
            found = json.loads((directory / f"{name}.json").read_text("utf-8"))
            rows = [found] if name == "chain" else found
            check(len(rows) > 0, Stage.VECTOR, "no rows")
            for row in rows:
                check_row(row)
        except (Refused, OSError, KeyError, TypeError, ValueError) as error:
            raise Refused(Stage.VECTOR, f"{name}.json: {error}") from error
        say(f"{name}.json: {len(rows)} checked")


# ---------------------------------------------------------------------------------------- command line


def read_file(path: Path) -> bytes:
    """The bytes of a file; one that ends in .hex holds them as hexadecimal text."""
    return bytes.fromhex(path.read_text("ascii")) if path.suffix == ".hex" else path.read_bytes()


def verify_files(params: Path, dataset: Path, blocks: Sequence[Path], now: int | None, say: Say) -> Tip:
    """Verify a chain from files, one block each, in order of height with or without genesis."""
    chain, genesis = open_chain(read_file(params), decode_dataset_file(read_file(dataset)))
    raws = [read_file(path) for path in blocks]
    if raws and len(raws[0]) == HEADER.size + 4:
        check_genesis(chain, raws.pop(0))
    last = genesis
    for tip in iterate_chain(chain, genesis, raws, now):
        say(f"block {tip.header.height} {tip.block_id.hex()} {tip.report}")
        last = tip
    return last


def build_parser() -> argparse.ArgumentParser:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description="Verify a FreezeNet chain independently of the node's code.")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--node", metavar="URL", help="verify the whole chain of a live node")
    source.add_argument("--vectors", metavar="DIR", type=Path, help="check the golden vectors in a directory")
    source.add_argument("--params", metavar="FILE", type=Path, help="verify files, binary or *.hex")
    parser.add_argument("--dataset", metavar="FILE", type=Path, help="dataset in one file, with --params")
    parser.add_argument("--blocks", metavar="FILE", type=Path, nargs="*", default=[], help="one block each")
    parser.add_argument("--now", metavar="SECONDS", type=int, help="Unix time to check against; the clock's")
    return parser


def describe(tip: Tip) -> str:
    """The line at the end of a chain that verified."""
    coins = sum(account.balance for account in tip.accounts.values())
    immature = sum(due.amount for due in tip.dues.values())
    return (
        f"verified {tip.header.height} blocks: tip {tip.block_id.hex()}, chain work {tip.work}, "
        f"{len(tip.accounts)} accounts with {coins} coins, {immature} immature"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Verify what the command line names; 0 if all of it holds, 1 otherwise."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    if options.params and not options.dataset:
        parser.error("--params needs --dataset")
    try:
        if options.vectors:
            verify_vectors(options.vectors, print)
        elif options.node:
            print(describe(verify_node(options.node, options.now, print)))
        else:
            print(describe(verify_files(options.params, options.dataset, options.blocks, options.now, print)))
    except (Refused, OSError, ValueError) as error:
        print(f"refused: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
