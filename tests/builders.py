"""Builders of a tiny synthetic chain: a dataset, a ladder, funded keys, and blocks on any parent.

The network has 1,332 weights and the splits 24 and 12 records: the normative evaluator takes milliseconds.
Blocks carry a dummy witness of the right length (tests.fakes judges it) unless one is given.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from chain.chain import Chain
from chain.keys import SigningKey
from chain.records import Commit
from chain.signatures import verify_signature
from chain.store import Store, open_store
from consensus.block import HEADER_VERSION, Block, Header, Witness, encode_block, encode_header
from consensus.dataset import Dataset, decode_dataset, describe_dataset, encode_split
from consensus.difficulty import compute_difficulty, get_required_rung
from consensus.encoding import ZERO_HASH, Hash32
from consensus.ledger import Account, apply_transfers
from consensus.network import NetworkSpec, count_correct
from consensus.params import ChainParams, ChainSpec
from consensus.rules import compute_payout
from consensus.solution import Solution, assemble_network, compute_solution_bytes, encode_solution
from consensus.task import Rung, Task
from consensus.transaction import TRANSFER_VERSION, SignedTransfer, Transfer, compute_transactions_root
from consensus.watermark import derive_watermark

NETWORK = NetworkSpec(c=1, h=4, w=4, classes=2, blocks=1, filters=4, hidden=64)
N_TRAIN, N_EVAL = 24, 12
RUNGS = (
    Rung(frozen=8_000, min_train_correct=6, min_eval_correct=2, work=1_000),
    Rung(frozen=8_500, min_train_correct=7, min_eval_correct=3, work=1_600),
    Rung(frozen=9_000, min_train_correct=8, min_eval_correct=3, work=2_500),
    Rung(frozen=9_500, min_train_correct=9, min_eval_correct=4, work=4_000),
)
GENESIS_TIMESTAMP = 1_700_000_000
TARGET_SECONDS = 20
INITIAL_BALANCE = 1_000_000
ALICE, BOB, CAROL = (SigningKey.from_seed(bytes([number]) * 32) for number in (1, 2, 3))
MINER = SigningKey.from_seed(b"\x09" * 32).public
DUMMY_MARK = b"ok"


@cache
def build_dataset() -> Dataset:
    """Noise with labels, the same on every machine."""
    splits = []
    for name, count in (("train", N_TRAIN), ("eval", N_EVAL)):
        stream = b"".join(hashlib.sha256(f"{name} {i}".encode()).digest() for i in range(count))
        pixels = np.frombuffer(stream, dtype=np.uint8).reshape(count, 32)[:, :16].reshape(count, 1, 4, 4)
        labels = np.arange(count, dtype=np.uint8) % NETWORK.classes
        splits.append(encode_split(labels, pixels))
    spec = describe_dataset(NETWORK.classes, (NETWORK.c, NETWORK.h, NETWORK.w), *splits)
    return decode_dataset(spec, *splits)


def build_spec(**changes: Any) -> ChainSpec:
    """A checked chain with funded ALICE, BOB and CAROL; `changes` replace fields of its parameters."""
    dataset = build_dataset().spec
    params = ChainParams(
        name="tiny",
        target_interval=TARGET_SECONDS,
        halving_interval=50,
        initial_reward=5_000,
        maturity=3,
        max_transactions=8,
        genesis_timestamp=GENESIS_TIMESTAMP,
        initial_difficulty=RUNGS[1].work,
        balances=tuple(sorted((key.public, INITIAL_BALANCE) for key in (ALICE, BOB, CAROL))),
        task=Task(dataset.dataset_id, NETWORK, RUNGS),
    )
    return ChainSpec.build(replace(params, **changes), dataset)


@dataclass(frozen=True, slots=True)
class BuiltBlock:
    """A block with its ancestors, whatever chain knows it."""

    block: Block
    parent: BuiltBlock | None
    """None for genesis."""
    chain_work: int
    """Sum of the work up to the block."""

    @property
    def header(self) -> Header:
        """Its header."""
        return self.block.header

    @property
    def block_id(self) -> Hash32:
        """Its id."""
        return self.header.block_id

    @property
    def height(self) -> int:
        """Its height."""
        return self.header.height

    @property
    def raw(self) -> bytes:
        """Its canonical bytes."""
        return encode_block(self.block)

    @property
    def witness(self) -> Witness:
        """Its witness; genesis has none."""
        assert self.block.witness is not None
        return self.block.witness

    def list_branch(self) -> list[BuiltBlock]:
        """The blocks above genesis up to this one, the lowest first."""
        branch, block = [], self
        while block.parent is not None:
            branch.append(block)
            block = block.parent
        return branch[::-1]

    def with_witness(self, witness: Witness) -> BuiltBlock:
        """The same header with another witness."""
        return replace(self, block=replace(self.block, witness=witness))


def build_genesis(spec: ChainSpec) -> BuiltBlock:
    """The block of height 0."""
    return BuiltBlock(spec.genesis_block, None, 0)


def build_header(
    spec: ChainSpec,
    parent: BuiltBlock,
    transfers: Sequence[SignedTransfer] = (),
    *,
    miner: bytes = MINER,
    seconds: int = TARGET_SECONDS,
    nonce: int = 0,
    parent_witness: Hash32 | None = None,
) -> Header:
    """A header that obeys every rule, `seconds` after its parent's; commits to the witness built for it."""
    grandparent = parent.parent
    seen = None if grandparent is None else grandparent.header.timestamp
    served = parent.block.witness
    return Header(
        version=HEADER_VERSION,
        height=parent.height + 1,
        parent=parent.block_id,
        parent_witness=parent_witness or (ZERO_HASH if served is None else served.witness_id),
        timestamp=parent.header.timestamp + seconds,
        transactions_root=compute_transactions_root(transfers),
        miner=miner,
        difficulty=compute_difficulty(spec.params, parent.header, seen),
        task_id=spec.task_id,
        nonce=nonce,
    )


def get_rung(spec: ChainSpec, parent: BuiltBlock, header: Header) -> Rung:
    """What the header's witness must meet."""
    return get_required_rung(spec.params, header, parent.header.timestamp)


def build_witness(spec: ChainSpec, rung: Rung, mark: bytes = DUMMY_MARK) -> Witness:
    """A dummy witness of the rung's length and counts; another mark that begins alike makes a valid twin."""
    length = compute_solution_bytes(spec.task.network, spec.task.compute_frozen_count(rung))
    return Witness(rung.min_train_correct, rung.min_eval_correct, mark.ljust(length, b"\0"))


def solve_witness(spec: ChainSpec, header: Header, rung: Rung) -> Witness:
    """A real witness that the normative evaluator accepts: free weights drawn until the rung is met."""
    dataset, task = build_dataset(), spec.task
    watermark = derive_watermark(encode_header(header), NETWORK.weight_count, task.compute_frozen_count(rung))
    random = np.random.default_rng(int.from_bytes(header.block_id[:8], "little"))
    outputs = NETWORK.normalised_outputs
    while True:
        solution = Solution(
            free=random.integers(-127, 128, NETWORK.weight_count - len(watermark.indices), dtype=np.int8),
            multipliers=tuple(np.full(count, 2**13, dtype=np.uint32) for count in outputs),
            offsets=tuple(np.zeros(count, dtype=np.int64) for count in outputs),
            bias=np.zeros(NETWORK.classes, dtype=np.int32),
        )
        network = assemble_network(NETWORK, watermark, solution)
        train, right = (count_correct(network, s.pixels, s.labels) for s in (dataset.train, dataset.eval))
        if train >= rung.min_train_correct and right >= rung.min_eval_correct:
            return Witness(train, right, encode_solution(solution))


def finish_block(
    spec: ChainSpec,
    parent: BuiltBlock,
    header: Header,
    transfers: Sequence[SignedTransfer] = (),
    witness: Witness | None = None,
) -> BuiltBlock:
    """The block of a header, broken or not, with a dummy witness unless one is given."""
    rung = get_rung(spec, parent, header)
    block = Block(header, tuple(transfers), witness or build_witness(spec, rung))
    return BuiltBlock(block, parent, parent.chain_work + rung.work)


def mine_block(
    spec: ChainSpec,
    parent: BuiltBlock,
    transfers: Sequence[SignedTransfer] = (),
    *,
    miner: bytes = MINER,
    seconds: int = TARGET_SECONDS,
    nonce: int = 0,
    parent_witness: Hash32 | None = None,
    mark: bytes = DUMMY_MARK,
) -> BuiltBlock:
    """A valid child of any parent, `seconds` after it, under a dummy witness."""
    header = build_header(
        spec,
        parent,
        transfers,
        miner=miner,
        seconds=seconds,
        nonce=nonce,
        parent_witness=parent_witness,
    )
    witness = build_witness(spec, get_rung(spec, parent, header), mark)
    return finish_block(spec, parent, header, transfers, witness)


def mine_blocks(spec: ChainSpec, parent: BuiltBlock, count: int, **options: Any) -> list[BuiltBlock]:
    """`count` empty blocks in a row; `options` as for `mine_block`."""
    mined: list[BuiltBlock] = []
    for _ in range(count):
        mined.append(mine_block(spec, mined[-1] if mined else parent, **options))
    return mined


def replay_accounts(spec: ChainSpec, block: BuiltBlock) -> dict[bytes, Account]:
    """The accounts after a block by replaying its branch from genesis; empty ones left out."""
    branch = block.list_branch()
    accounts = dict(spec.genesis_accounts)

    def get_account(key: bytes) -> Account:
        return accounts.get(key, Account())

    for built in branch:
        mature_height = built.height - spec.params.maturity
        matured = None
        if mature_height >= 1:
            earner = branch[mature_height - 1].block
            matured = compute_payout(spec.params, earner.header, earner.transfers)
        accounts.update(apply_transfers(get_account, matured, built.block.transfers, spec.chain_id))
    return {key: account for key, account in accounts.items() if account != Account()}


def build_transfer(
    spec: ChainSpec,
    sender: SigningKey,
    recipient: bytes,
    amount: int = 100,
    *,
    fee: int = 1,
    nonce: int = 0,
) -> SignedTransfer:
    """A signed transfer."""
    transfer = Transfer(TRANSFER_VERSION, spec.chain_id, sender.public, recipient, amount, fee, nonce)
    return sender.sign_transfer(transfer)


def open_chain(directory: Path, spec: ChainSpec) -> tuple[Store, Chain]:
    """The store in a directory, and its chain."""
    store = open_store(directory / "chain.sqlite3", spec)
    return store, Chain(store, spec, verify_signature)


def submit(chain: Chain, built: BuiltBlock, parent_witness: Witness | None = None) -> Commit:
    """Pre-verify at the block's own time and commit, its witness being taken as evaluated."""
    candidate = chain.pre_verify(built.raw, built.header.timestamp, claimed_chain_work=2**88)
    return chain.commit(candidate, parent_witness)
