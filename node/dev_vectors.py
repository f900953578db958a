"""The golden vectors: JSON files by which any implementation of docs/protocol.md can test itself.

Owns the rows and the form of the files; the chain in them is node.dev_chain's. Every u64 is a decimal string,
bytes are hexadecimal, and the same code writes the same bytes everywhere.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from consensus.address import encode_address
from consensus.block import Block, Header, Witness, encode_block, encode_header, encode_witness
from consensus.dataset import encode_dataset_spec, encode_split
from consensus.difficulty import compute_difficulty, compute_eased_difficulty
from consensus.encoding import U64_MAX, ZERO_HASH
from consensus.evaluation import rebuild_network
from consensus.merkle import compute_merkle_root
from consensus.network import (
    BIAS_BOUND,
    MULTIPLIER_LIMIT,
    OFFSET_BOUND,
    IntegerNetwork,
    NetworkSpec,
    compute_classes,
)
from consensus.params import ChainParams, encode_params
from consensus.task import Rung, Task, encode_task
from consensus.transaction import SignedTransfer, Transfer, encode_signed
from consensus.watermark import derive_watermark
from node.dev_chain import (
    ALICE,
    DAVE,
    GENESIS_TIMESTAMP,
    NO_ONES_KEY,
    TARGET_SECONDS,
    GoldenChain,
    balance_classes,
    build_golden_chain,
    draw_bytes,
)

Row = dict[str, Any]

PAPER_NETWORK = NetworkSpec(c=3, h=32, w=32, classes=10, blocks=4, filters=32, hidden=128)
ODD_NETWORK = NetworkSpec(c=3, h=3, w=7, classes=4, blocks=1, filters=5, hidden=60)
RFC_6962_LEAVES = (
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    bytes(range(96, 112)).hex(),
)
"""The leaves that implementations of RFC 6962 share."""


def build_vectors() -> dict[str, str]:
    """The text of every file, by its name."""
    chain = build_golden_chain()
    files: dict[str, Row | list[Row]] = {
        "chain": build_chain_file(chain),
        "watermark": build_watermark_rows(chain),
        "transfers": build_transfer_rows(chain),
        "merkle": build_merkle_rows(chain),
        "evaluation": build_evaluation_rows(chain),
        "difficulty": build_difficulty_rows(chain.spec.params),
    }
    return {f"{name}.json": json.dumps(content, indent=1) + "\n" for name, content in files.items()}


def build_chain_file(chain: GoldenChain) -> Row:
    """What fixes the chain, its blocks, the accounts after the last one, and the witnesses left out."""
    spec, dataset = chain.spec, chain.dataset
    return {
        "params_hex": spec.params_bytes.hex(),
        "task_hex": encode_task(spec.task).hex(),
        "dataset_hex": encode_dataset_spec(dataset.spec).hex(),
        "train_hex": encode_split(dataset.train.labels, dataset.train.pixels).hex(),
        "eval_hex": encode_split(dataset.eval.labels, dataset.eval.pixels).hex(),
        "blocks": [
            _build_block_row(block, work) for block, work in zip(chain.blocks, chain.chain_works, strict=True)
        ],
        "accounts": [
            {"key_hex": key.hex(), "balance": str(account.balance), "nonce": str(account.nonce)}
            for key, account in sorted(chain.accounts.items())
        ],
        "twins": [
            {
                "id": block_id.hex(),
                "witness_hex": encode_witness(twin).hex(),
                "witness_id": twin.witness_id.hex(),
            }
            for block_id, twin in chain.twins.items()
        ],
    }


def _build_block_row(block: Block, chain_work: int) -> Row:
    witness = block.witness or Witness(0, 0, b"")
    return {
        "raw_hex": encode_block(block).hex(),
        "id": block.header.block_id.hex(),
        "height": block.header.height,
        "chain_work": str(chain_work),
        "train_correct": witness.train_correct,
        "eval_correct": witness.eval_correct,
    }


def build_watermark_rows(chain: GoldenChain) -> list[Row]:
    """The last block's watermark at every rung, and the paper's network at both ends and in between."""
    header, task = chain.blocks[-1].header, chain.spec.task
    sizes = [(task.network.weight_count, task.compute_frozen_count(rung)) for rung in task.rungs]
    paper = PAPER_NETWORK.weight_count
    sizes += [(paper, paper * frozen // 10_000) for frozen in (1_000, 7_000, 9_990)]
    return [_build_watermark_row(header, *size) for size in sizes]


def _build_watermark_row(header: Header, weights: int, frozen_count: int) -> Row:
    watermark = derive_watermark(encode_header(header), weights, frozen_count)
    return {
        "header_hex": encode_header(header).hex(),
        "weights": weights,
        "frozen_count": frozen_count,
        "indices_sha256": hashlib.sha256(watermark.indices.astype("<u4").tobytes()).hexdigest(),
        "values_sha256": hashlib.sha256(watermark.values.tobytes()).hexdigest(),
    }


def build_transfer_rows(chain: GoldenChain) -> list[Row]:
    """Every transfer of the chain, and two with fields at both ends of their range."""
    chain_id = chain.spec.chain_id
    largest = Transfer(1, chain_id, DAVE.public, b"\xff" * 32, U64_MAX, U64_MAX, U64_MAX)
    smallest = Transfer(1, ZERO_HASH, ALICE.public, bytes(32), 0, 0, 0)
    extremes = [DAVE.sign_transfer(largest), ALICE.sign_transfer(smallest)]
    mined = [signed for block in chain.blocks for signed in block.transfers]
    return [_build_transfer_row(signed) for signed in mined + extremes]


def _build_transfer_row(signed: SignedTransfer) -> Row:
    return {
        "signed_hex": encode_signed(signed).hex(),
        "tx_id": signed.tx_id.hex(),
        "sender_address": encode_address(signed.transfer.sender),
        "recipient_address": encode_address(signed.transfer.recipient),
    }


def build_merkle_rows(chain: GoldenChain) -> list[Row]:
    """Trees of 0 to 8 leaves of RFC 6962, and the transactions of each block of the chain."""
    leaves = [bytes.fromhex(leaf) for leaf in RFC_6962_LEAVES]
    trees = [leaves[:size] for size in range(len(leaves) + 1)]
    trees += [[signed.tx_id for signed in block.transfers] for block in chain.blocks if block.transfers]
    return [
        {"leaves_hex": [leaf.hex() for leaf in tree], "root": compute_merkle_root(tree).hex()}
        for tree in trees
    ]


def build_evaluation_rows(chain: GoldenChain) -> list[Row]:
    """Networks that won blocks, and networks with every value at its bounds or with equal logits."""
    pixels = chain.dataset.eval.pixels[:40]
    rows = [_build_evaluation_row(network, pixels) for network in _rebuild_networks(chain)]
    pixels = build_odd_pixels()
    return rows + [_build_evaluation_row(network, pixels) for network in build_odd_networks(pixels)]


def _rebuild_networks(chain: GoldenChain) -> Iterator[IntegerNetwork]:
    """The networks of the chain's blocks, from their witnesses."""
    task = chain.spec.task
    works = np.diff(chain.chain_works).tolist()
    for block, work in zip(chain.blocks[1:], works, strict=True):
        if block.witness is not None:
            yield rebuild_network(task, task.get_rung(work), block.header, block.witness)


def build_odd_pixels() -> npt.NDArray[np.uint8]:
    """uint8[24, 3, 3, 7]: images of one value at either end, then noise."""
    shape = (ODD_NETWORK.c, ODD_NETWORK.h, ODD_NETWORK.w)
    noise = np.frombuffer(draw_bytes("pixels", 20 * 63), np.uint8).reshape(20, *shape)
    ends = np.stack([np.full(shape, value, np.uint8) for value in (0, 1, 254, 255)])
    return np.concatenate([ends, noise])


def build_odd_networks(pixels: npt.NDArray[np.uint8]) -> list[IntegerNetwork]:
    """Networks of odd sizes: values at their bounds, then in mid-range, then logits that are all equal."""
    count, limit = ODD_NETWORK.weight_count, MULTIPLIER_LIMIT - 1
    drawn = np.frombuffer(draw_bytes("weights", count), np.uint8).astype(np.int16)
    mixed = (drawn % 255 - 127).astype(np.int8)
    largest = np.full(count, 127, np.int8)
    signed = np.where(drawn % 2, 127, -127).astype(np.int8)
    silent = mixed.copy()
    silent[ODD_NETWORK.layers[-1].start :] = 0
    return [
        _build_uniform(largest, limit, -OFFSET_BOUND, [BIAS_BOUND, -BIAS_BOUND, BIAS_BOUND, 0]),
        _build_uniform(-largest, limit, OFFSET_BOUND, [-BIAS_BOUND] * 4),
        balance_classes(_build_uniform(signed, limit, 0, [0] * 4), pixels),
        balance_classes(_build_uniform(signed, 1 << 14, 64 << 24, [0] * 4), pixels),
        balance_classes(_build_uniform(mixed, 1 << 15, 60 << 24, [0] * 4), pixels),
        _build_uniform(silent, 1 << 15, 64 << 24, [7] * 4),
    ]


def _build_evaluation_row(network: IntegerNetwork, pixels: npt.NDArray[np.uint8]) -> Row:
    norms = zip(network.multipliers, network.offsets, strict=True)
    return {
        "task_hex": encode_task(Task(ZERO_HASH, network.spec, (Rung(9_990, 0, 0, 1_000),))).hex(),
        "weights_hex": network.weights.tobytes().hex(),
        "norm_hex": b"".join(m.astype("<u4").tobytes() + b.astype("<i8").tobytes() for m, b in norms).hex(),
        "bias_hex": network.bias.astype("<i4").tobytes().hex(),
        "records_hex": encode_split(np.zeros(len(pixels), np.uint8), pixels).hex(),
        "classes": compute_classes(network, pixels).tolist(),
    }


def _build_uniform(
    weights: npt.NDArray[np.int8], multiplier: int, offset: int, bias: Sequence[int]
) -> IntegerNetwork:
    """An odd network with one M and one B everywhere."""
    outputs = ODD_NETWORK.normalised_outputs
    return IntegerNetwork(
        ODD_NETWORK,
        weights,
        tuple(np.full(size, multiplier, np.uint32) for size in outputs),
        tuple(np.full(size, offset, np.int64) for size in outputs),
        np.array(bias, np.int32),
    )


def build_difficulty_rows(params: ChainParams) -> list[Row]:
    """Every clamp and every edge of easing, on the chain's ladder and on one that spans all of its range."""
    interval = TARGET_SECONDS
    rows = []
    for ladder in (params, build_wide_params(params)):
        first, last = ladder.task.rungs[0].work, ladder.task.rungs[-1].work
        for difficulty in (first, ladder.initial_difficulty, last):
            rows.append(_build_difficulty_row(ladder, difficulty, None, interval))
            for elapsed in (interval // 4, interval, 2 * interval, 64 * interval - 1, 64 * interval, 10**9):
                rows.append(_build_difficulty_row(ladder, difficulty, elapsed, interval))
        for late in (6, 8, 10, 6 + 2 * 62, 6 + 2 * 63, 6 + 2 * 64, 10**12):
            for seconds in (late * interval - 1, late * interval):
                rows.append(_build_difficulty_row(ladder, last, interval, seconds))
    return rows


def build_wide_params(params: ChainParams) -> ChainParams:
    """The same chain with a ladder that doubles from the least work to nearly the most."""
    rungs = tuple(Rung(9_500, 0, 0, 1_000 << step) for step in range(46))
    return replace(params, initial_difficulty=123_456_789_123, task=replace(params.task, rungs=rungs))


def _build_difficulty_row(params: ChainParams, difficulty: int, elapsed: int | None, seconds: int) -> Row:
    """The child, `seconds` after a parent that came `elapsed` seconds after its own; genesis if None."""
    height = 0 if elapsed is None else 7
    timestamp = GENESIS_TIMESTAMP + (elapsed or 0)
    grandparent = None if elapsed is None else GENESIS_TIMESTAMP
    parent = Header(
        1, height, ZERO_HASH, ZERO_HASH, timestamp, ZERO_HASH, NO_ONES_KEY, difficulty, ZERO_HASH, nonce=0
    )
    required = compute_difficulty(params, parent, grandparent)
    eased = compute_eased_difficulty(params, required, timestamp + seconds, timestamp)
    return {
        "params_hex": encode_params(params).hex(),
        "parent": {"timestamp": str(timestamp), "difficulty": str(difficulty), "height": height},
        "grandparent_timestamp": None if grandparent is None else str(grandparent),
        "timestamp": str(timestamp + seconds),
        "difficulty": str(required),
        "eased": str(eased),
        "rung_index": params.task.rungs.index(params.task.get_rung(eased)),
    }
