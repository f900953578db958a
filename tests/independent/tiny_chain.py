"""A small valid chain, built from nothing, for the tests of the independent verifier.

Owns a synthetic task (4×4 images, two classes: which half is brighter), a one-shot way to solve it under any
watermark, and blocks that between them hold transfers, an eased rung, a halving and matured rewards. It
shares the encodings of the verifier under test; the golden vectors are what ties those to the node's.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tools import independent_verifier as verifier
from tools.independent_verifier import Block, Header, Norm, Rung, Tip, Transfer, Witness

NETWORK = verifier.Network(c=1, h=4, w=4, classes=2, blocks=1, filters=8, hidden=48)
N_TRAIN, N_EVAL = 240, 120
RUNGS = (
    Rung(frozen=5_000, min_train_correct=150, min_eval_correct=70, work=1_000),
    Rung(frozen=6_000, min_train_correct=160, min_eval_correct=75, work=1_500),
    Rung(frozen=5_500, min_train_correct=170, min_eval_correct=80, work=2_500),
)
TARGET_SECONDS = 16
GENESIS_TIMESTAMP = 1_700_000_000
ALICE, BOB, CAROL = (Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32) for seed in (1, 2, 3))
MINERS = (b"\x11" * 32, BOB.public_key().public_bytes_raw())
SETTLED = 1 << 40


def compute_key(signer: Ed25519PrivateKey) -> bytes:
    return signer.public_key().public_bytes_raw()


def build_split(records: int, seed: int) -> bytes:
    """Records of noise whose label says whether the lower half is the brighter one."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, records)
    pixels = rng.integers(0, 180, (records, 2, 8))
    pixels[np.arange(records), labels] += 60
    return np.column_stack([labels, pixels.reshape(records, 16)]).astype(np.uint8).tobytes()


TRAIN, EVAL = build_split(N_TRAIN, 1), build_split(N_EVAL, 2)
DESCRIPTION = verifier.Description(
    1, 4, 4, 2, N_TRAIN, N_EVAL, verifier.split_root(TRAIN), verifier.split_root(EVAL)
)
DATASET_BYTES = verifier.DESCRIPTION.pack(*DESCRIPTION)


def encode_task(
    network: verifier.Network = NETWORK,
    rungs: Sequence[Rung] = RUNGS,
    dataset_id: bytes = DESCRIPTION.dataset_id,
) -> bytes:
    ladder = b"".join(verifier.RUNG.pack(*rung) for rung in rungs)
    return verifier.TASK.pack(dataset_id, *network, len(rungs)) + ladder


@dataclass(frozen=True, slots=True)
class ParamsFields:
    """The fields of chain parameters, to be encoded with any of them replaced."""

    version: int = 1
    name: bytes = b"tiny-1"
    target_interval: int = TARGET_SECONDS
    halving_interval: int = 3
    initial_reward: int = 1_001
    maturity: int = 2
    max_transactions: int = 4
    genesis_timestamp: int = GENESIS_TIMESTAMP
    initial_difficulty: int = 2_500
    accounts: Sequence[tuple[bytes, int]] = field(default=((compute_key(ALICE), 5_000),))
    task: bytes = field(default_factory=encode_task)

    def encode(self) -> bytes:
        numbers = (
            self.target_interval,
            self.halving_interval,
            self.initial_reward,
            self.maturity,
            self.max_transactions,
            self.genesis_timestamp,
            self.initial_difficulty,
        )
        accounts = b"".join(key + struct.pack("<Q", amount) for key, amount in self.accounts)
        return b"".join(
            [
                struct.pack("<HB", self.version, len(self.name)) + self.name,
                verifier.PARAMS.pack(*numbers),
                struct.pack("<I", len(self.accounts)) + accounts,
                struct.pack("<I", len(self.task)) + self.task,
            ]
        )


def solve(header: bytes, rung: Rung, dataset: verifier.Dataset) -> Witness:
    """A network under the header's watermark that tells the classes apart, fitted in one pass and evaluated.

    Free weights of the feature layers are zero and their norms centre every unit; the free weights of the
    last layer point along the difference of the class means, and its bias is the best threshold on train.
    """
    task = verifier.decode_task(encode_task())
    frozen, values = verifier.compute_watermark(header, NETWORK.weights, task.compute_frozen_count(rung))
    weights = np.zeros(NETWORK.weights, np.int8)
    weights[frozen] = values
    is_free = np.ones(NETWORK.weights, np.bool_)
    is_free[frozen] = False
    hidden, norms = compute_features(weights, dataset.train)
    readout = is_free.reshape(-1)[-2 * NETWORK.hidden :].reshape(2, NETWORK.hidden)
    weights[-2 * NETWORK.hidden :][readout.reshape(-1)] = compute_readout(hidden, dataset.train)[readout]
    bias = compute_bias(hidden, weights, dataset.train)
    solution = b"".join(
        [
            weights[is_free].tobytes(),
            *(norm.m.astype("<u4").tobytes() + norm.b.astype("<i8").tobytes() for norm in norms),
            struct.pack("<2i", *bias),
        ]
    )
    return Witness(*verifier.compute_counts(task, rung, header, solution, dataset), solution)


def compute_features(
    weights: verifier.WeightArray, split: verifier.Split
) -> tuple[verifier.ExactArray, list[Norm]]:
    """Hidden activations float64[n, hidden] of a split, and norms that put every unit's mean in mid-range."""
    first, second, dense, _ = verifier.compute_layer_weights(NETWORK, weights)
    a = (split.pixels >> 1).transpose(0, 2, 3, 1).astype(np.float64)
    norms = []
    for layer in (first, second):
        acc = verifier.convolve(a, layer)
        norms.append(compute_norm(acc.reshape(-1, acc.shape[3])))
        a = verifier.normalise(acc, norms[-1])
    flat = verifier.pool(a).transpose(0, 3, 1, 2).reshape(len(a), -1)
    norms.append(compute_norm(flat @ dense))
    return verifier.normalise(flat @ dense, norms[-1]), norms


def compute_norm(acc: verifier.ExactArray) -> Norm:
    """M and B that map accumulators [rows, units] to a mean of 64 and a deviation of 30."""
    gain = 30.0 / (acc.std(axis=0) + 1.0)
    m = np.rint(gain * 2.0**24)
    return Norm(m, np.rint(64.0 * 2.0**24 - acc.mean(axis=0) * m))


def compute_readout(hidden: verifier.ExactArray, split: verifier.Split) -> verifier.WeightArray:
    """Last-layer weights i8[2, hidden] along the difference of the class means."""
    difference = hidden[split.labels == 1].mean(axis=0) - hidden[split.labels == 0].mean(axis=0)
    scaled = np.rint(127 * difference / np.abs(difference).max()).astype(np.int8)
    return np.stack([-scaled, scaled])


def compute_bias(
    hidden: verifier.ExactArray, weights: verifier.WeightArray, split: verifier.Split
) -> tuple[int, int]:
    """The bias of both classes that is right most often on a split."""
    readout = weights[-2 * NETWORK.hidden :].reshape(2, NETWORK.hidden).astype(np.float64)
    margin = hidden @ (readout[1] - readout[0])
    right = [int(np.sum((margin > threshold) == split.labels)) for threshold in margin]
    return int(margin[int(np.argmax(right))]), 0


def sign(signer: Ed25519PrivateKey, transfer: Transfer) -> bytes:
    """The signed bytes of a transfer."""
    encoded = transfer.encode()
    return encoded + signer.sign(verifier.tagged_hash("FreezeNet/1/sign", encoded))


def compute_transactions_root(signed: Iterable[bytes]) -> bytes:
    leaves = [verifier.merkle_leaf(verifier.compute_transaction_id(transfer)) for transfer in signed]
    return verifier.merkle_root(leaves)


def build_header(chain: verifier.Chain, tip: Tip, seconds: int, signed: Sequence[bytes] = ()) -> Header:
    """The header of a block `seconds` after its parent, with every rule of the header kept."""
    return Header(
        version=1,
        height=tip.header.height + 1,
        parent=tip.block_id,
        parent_witness=tip.witness_hash,
        timestamp=tip.header.timestamp + seconds,
        transactions_root=compute_transactions_root(signed),
        miner=MINERS[tip.header.height % 2],
        difficulty=verifier.compute_difficulty(chain.params, tip.header, tip.grandparent_timestamp),
        task_id=chain.params.task.task_id,
        nonce=(1 << 64) - 1 - tip.header.height,
    )


def mine(chain: verifier.Chain, tip: Tip, seconds: int, signed: Sequence[bytes] = ()) -> bytes:
    """A block with these transfers whose header and work are right, whatever the ledger says of them."""
    header = build_header(chain, tip, seconds, signed)
    rung = chain.params.task.rungs[verifier.compute_rung(chain, tip, header)]
    return Block(header, tuple(signed), solve(header.encode(), rung, chain.dataset)).encode()


@dataclass(frozen=True, slots=True)
class TinyChain:
    """A valid chain: `blocks[i]` is the block at height i + 1 and `tips[i]` the state below it."""

    params: bytes
    chain: verifier.Chain
    blocks: tuple[bytes, ...]
    tips: tuple[Tip, ...]

    @property
    def genesis_block(self) -> bytes:
        return self.tips[0].header.encode() + bytes(4)

    def decode(self, at: int) -> Block:
        limit = self.chain.params.max_transactions
        return verifier.decode_block(self.blocks[at], limit, self.chain.longest_solution)


def build_transfers(chain_id: bytes) -> list[list[bytes]]:
    """Transfers of blocks 1 to 5: a credit spent in its own block, a self-transfer, a mined coin spent."""
    alice, bob, carol = map(compute_key, (ALICE, BOB, CAROL))
    return [
        [],
        [
            sign(ALICE, Transfer(1, chain_id, alice, carol, 700, 3, 0)),
            sign(CAROL, Transfer(1, chain_id, carol, b"\xee" * 32, 600, 100, 0)),
            sign(ALICE, Transfer(1, chain_id, alice, alice, 4_000, 0, 1)),
        ],
        [sign(ALICE, Transfer(1, chain_id, alice, bob, 0, 0, 2))],
        [sign(BOB, Transfer(1, chain_id, bob, alice, 1_000, 104, 0))],
        [],
    ]


@cache
def build_tiny_chain() -> TinyChain:
    """Five blocks above genesis; the third comes late enough to be eased, the fifth as early as it may."""
    params = ParamsFields().encode()
    chain, tip = verifier.open_chain(params, verifier.decode_dataset(DATASET_BYTES, TRAIN, EVAL))
    blocks, tips = [], [tip]
    for seconds, signed in zip((20, 9, 170, 14, 4), build_transfers(chain.chain_id), strict=True):
        blocks.append(mine(chain, tips[-1], seconds, signed))
        tips.append(verifier.check_block(chain, tips[-1], blocks[-1], SETTLED))
    return TinyChain(params, chain, tuple(blocks), tuple(tips))
