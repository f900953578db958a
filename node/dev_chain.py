"""The chain of the golden vectors: a synthetic task, and blocks won on it by drawing networks at random.

Everything follows from constants by integers and Hash_DRBG, so the same bytes come out on every machine.
Turning the chain into files is node.dev_vectors'.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isqrt

import numpy as np
import numpy.typing as npt

from chain.keys import SigningKey
from consensus.block import HEADER_VERSION, Block, Header, Witness, encode_header
from consensus.dataset import Dataset, decode_dataset, describe_dataset, encode_split
from consensus.difficulty import compute_difficulty, get_required_rung
from consensus.drbg import HashDrbg
from consensus.encoding import U64_MAX, ZERO_HASH, compute_tagged_hash
from consensus.ledger import Account, apply_transfers
from consensus.network import IntegerNetwork, NetworkSpec, compute_logits, count_correct
from consensus.params import ChainParams, ChainSpec
from consensus.rules import compute_payout
from consensus.solution import Solution, assemble_network, decode_solution, encode_solution, extract_solution
from consensus.task import Rung, Task
from consensus.transaction import SignedTransfer, Transfer, compute_transactions_root
from consensus.watermark import derive_watermark

NETWORK = NetworkSpec(c=2, h=5, w=6, classes=3, blocks=2, filters=4, hidden=96)
"""2,136 weights; both pools meet an odd size."""
RUNGS = (
    Rung(frozen=4_800, min_train_correct=100, min_eval_correct=40, work=1_000),
    Rung(frozen=8_000, min_train_correct=110, min_eval_correct=45, work=1_500),
    Rung(frozen=9_990, min_train_correct=115, min_eval_correct=50, work=2_500),
    Rung(frozen=9_500, min_train_correct=120, min_eval_correct=55, work=4_000),
)
N_TRAIN, N_EVAL = 240, 120
TARGET_SECONDS = 20
GENESIS_TIMESTAMP = 1_700_000_000
ALICE, CAROL, DAVE = (SigningKey.from_seed(bytes([seed]) * 32) for seed in (1, 2, 3))
NO_ONES_KEY = b"\xee" * 32
"""32 bytes that no signature verifies under: they may receive and mine all the same."""
REQUEST_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class GoldenChain:
    """A whole valid chain, with the state after its last block."""

    spec: ChainSpec
    dataset: Dataset
    blocks: tuple[Block, ...]
    """By height, genesis first; each with the witness that its child commits to."""
    chain_works: tuple[int, ...]
    """Chain work up to each block."""
    accounts: dict[bytes, Account]
    """Every account ever touched, after the last block."""
    twins: dict[bytes, Witness]
    """By block id: a witness that verifies too, but that the child does not commit to."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """What one block holds, and when it comes."""

    seconds: int
    miner: bytes
    transfers: tuple[SignedTransfer, ...] = ()
    has_twin: bool = False


def draw_bytes(label: str, size: int) -> bytes:
    """`size` bytes that depend on the label alone."""
    drbg = HashDrbg(compute_tagged_hash("FreezeNet/1/vectors", label.encode("ascii")), b"", b"")
    requests = [drbg.generate(REQUEST_BYTES) for _ in range(-(-size // REQUEST_BYTES))]
    return b"".join(requests)[:size]


def build_split(name: str, records: int) -> bytes:
    """Noise in which class 0 brightens the first channel, class 1 the second and class 2 neither."""
    noise = np.frombuffer(draw_bytes(name, records * 61), np.uint8).reshape(records, 61)
    labels = noise[:, 0] % 3
    pixels = noise[:, 1:].reshape(records, 2, 5, 6) // 2
    for channel in (0, 1):
        pixels[labels == channel, channel] += 100
    return encode_split(labels, pixels)


def build_dataset() -> Dataset:
    """The checked dataset of 240 and 120 records."""
    train, eval_ = build_split("train", N_TRAIN), build_split("eval", N_EVAL)
    return decode_dataset(describe_dataset(3, (2, 5, 6), train, eval_), train, eval_)


def build_spec(dataset: Dataset) -> ChainSpec:
    """A chain that halves its reward at height 3 and pays it two blocks later."""
    params = ChainParams(
        name="golden-1",
        target_interval=TARGET_SECONDS,
        halving_interval=3,
        initial_reward=1_001,
        maturity=2,
        max_transactions=4,
        genesis_timestamp=GENESIS_TIMESTAMP,
        initial_difficulty=2_600,
        balances=((ALICE.public, 5_000),),
        task=Task(dataset.spec.dataset_id, NETWORK, RUNGS),
    )
    return ChainSpec.build(params, dataset.spec)


def build_plans(spec: ChainSpec) -> tuple[_Plan, ...]:
    """Five blocks: at once, as early as allowed, late enough to be eased, and back to normal.

    Among their transfers: a credit spent in its own block, a self-transfer of the whole balance, a mined coin
    spent in the block that pays it, and one of nothing to a key that nobody holds.
    """
    chain_id = spec.chain_id

    def pay(payer: SigningKey, recipient: bytes, amount: int, fee: int, nonce: int) -> SignedTransfer:
        return payer.sign_transfer(Transfer(1, chain_id, payer.public, recipient, amount, fee, nonce))

    spent_at_once = (
        pay(ALICE, CAROL.public, 700, 3, nonce=0),
        pay(CAROL, NO_ONES_KEY, 600, 100, nonce=0),
        pay(ALICE, ALICE.public, 4_290, 7, nonce=1),
    )
    return (
        _Plan(seconds=20, miner=DAVE.public),
        _Plan(seconds=5, miner=NO_ONES_KEY, transfers=spent_at_once),
        _Plan(175, DAVE.public, (pay(DAVE, ALICE.public, 1_000, 1, nonce=0),), has_twin=True),
        _Plan(14, bytes(32), (pay(ALICE, NO_ONES_KEY, 0, 0, nonce=2),)),
        _Plan(21, CAROL.public),
    )


def build_golden_chain() -> GoldenChain:
    """The chain, mined anew: about a hundred draws of a tiny network."""
    dataset = build_dataset()
    spec = build_spec(dataset)
    blocks, chain_works = [spec.genesis_block], [0]
    accounts, twins = dict(spec.genesis_accounts), {}
    for plan in build_plans(spec):
        header, rung = _build_header(spec, [block.header for block in blocks], blocks[-1].witness, plan)
        header, witness = win(spec.task, rung, header, dataset)
        if plan.has_twin:
            twins[header.block_id] = witness
            witness = shift_bias(spec.task, rung, witness)
        blocks.append(Block(header, plan.transfers, witness))
        chain_works.append(chain_works[-1] + rung.work)
        accounts |= _compute_changes(spec, blocks, accounts)
    return GoldenChain(spec, dataset, tuple(blocks), tuple(chain_works), accounts, twins)


def win(task: Task, rung: Rung, header: Header, dataset: Dataset) -> tuple[Header, Witness]:
    """The header with the highest nonce whose one draw meets the rung, and its witness."""
    drawn = replace(header, nonce=U64_MAX)
    while True:
        witness = draw_witness(task, rung, drawn, dataset)
        if witness.train_correct >= rung.min_train_correct and witness.eval_correct >= rung.min_eval_correct:
            return drawn, witness
        drawn = replace(drawn, nonce=drawn.nonce - 1)


def draw_witness(task: Task, rung: Rung, header: Header, dataset: Dataset) -> Witness:
    """A random network under the header's watermark, its classes balanced, and its true counts."""
    spec, raw = task.network, encode_header(header)
    watermark = derive_watermark(raw, spec.weight_count, task.compute_frozen_count(rung))
    drawn = _draw_solution(spec, spec.weight_count - len(watermark.indices), header.block_id.hex())
    network = balance_classes(assemble_network(spec, watermark, drawn), dataset.train.pixels)
    train = count_correct(network, dataset.train.pixels, dataset.train.labels)
    right = count_correct(network, dataset.eval.pixels, dataset.eval.labels)
    return Witness(train, right, encode_solution(extract_solution(network, watermark)))


def balance_classes(network: IntegerNetwork, pixels: npt.NDArray[np.uint8]) -> IntegerNetwork:
    """The network with the bias that gives every logit the median 0 on uint8[n, c, h, w] pixels."""
    logits = compute_logits(network, pixels) - network.bias
    medians = np.sort(logits, axis=0)[len(logits) // 2]
    return replace(network, bias=(-medians).astype(np.int32))


def shift_bias(task: Task, rung: Rung, witness: Witness) -> Witness:
    """A twin: every bias one higher, so that no prediction changes."""
    solution = decode_solution(task.network, task.compute_frozen_count(rung), witness.solution)
    shifted = replace(solution, bias=solution.bias + np.int32(1))
    return replace(witness, solution=encode_solution(shifted))


def _draw_solution(spec: NetworkSpec, free: int, label: str) -> Solution:
    """Free weights and offsets at random, multipliers that keep activations inside 0..127, and no bias."""
    outputs = spec.normalised_outputs
    drawn = np.frombuffer(draw_bytes(label, free + sum(outputs)), np.uint8).astype(np.int64)
    offsets = np.split(drawn[free:] << 23, np.cumsum(outputs)[:-1])
    multipliers = (_compute_multipliers(layer.outputs, layer.fan_in) for layer in spec.layers[:-1])
    return Solution(
        free=(drawn[:free] % 255 - 127).astype(np.int8),
        multipliers=tuple(multipliers),
        offsets=tuple(offsets),
        bias=np.zeros(spec.classes, np.int32),
    )


def _compute_multipliers(outputs: int, fan_in: int) -> npt.NDArray[np.uint32]:
    """M that brings sums of `fan_in` uniform weights times mid-range activations to a deviation near 30."""
    return np.full(outputs, (30 << 24) // (4_000 * isqrt(fan_in)), np.uint32)


def _build_header(
    spec: ChainSpec, headers: Sequence[Header], parent_witness: Witness | None, plan: _Plan
) -> tuple[Header, Rung]:
    parent = headers[-1]
    grandparent_timestamp = headers[-2].timestamp if len(headers) > 1 else None
    header = Header(
        version=HEADER_VERSION,
        height=parent.height + 1,
        parent=parent.block_id,
        parent_witness=parent_witness.witness_id if parent_witness else ZERO_HASH,
        timestamp=parent.timestamp + plan.seconds,
        transactions_root=compute_transactions_root(plan.transfers),
        miner=plan.miner,
        difficulty=compute_difficulty(spec.params, parent, grandparent_timestamp),
        task_id=spec.task_id,
        nonce=0,
    )
    return header, get_required_rung(spec.params, header, parent.timestamp)


def _compute_changes(
    spec: ChainSpec, blocks: Sequence[Block], accounts: dict[bytes, Account]
) -> dict[bytes, Account]:
    """The accounts that the last of the blocks changes."""
    height = len(blocks) - 1 - spec.params.maturity
    matured = None
    if height >= 1:
        matured = compute_payout(spec.params, blocks[height].header, blocks[height].transfers)
    return apply_transfers(
        lambda key: accounts.get(key, Account()), matured, blocks[-1].transfers, spec.chain_id
    )
