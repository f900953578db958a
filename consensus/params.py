"""Chain parameters, genesis, and the bundle of everything fixed for one chain (protocol §8)."""

from __future__ import annotations

import string
import struct
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from consensus.block import HEADER_VERSION, Block, BlockLimits, Header
from consensus.dataset import DatasetSpec, check_dataset_spec
from consensus.encoding import ZERO_HASH, Hash32, Reader, compute_tagged_hash, pack
from consensus.errors import BadDelivery, Code, RuleViolation
from consensus.ledger import Account
from consensus.merkle import compute_merkle_root
from consensus.solution import compute_solution_bytes
from consensus.task import Task, check_task, decode_task, encode_task

_FIXED = struct.Struct("<IIQIIQQ")
_BALANCE = struct.Struct("<32sQ")
PARAMS_VERSION = 1
_NAME_CHARACTERS = frozenset(string.ascii_lowercase + string.digits + "-")


@dataclass(frozen=True, slots=True)
class ChainParams:
    """Every rule that differs between chains."""

    name: str
    """1 to 32 characters of a-z, 0-9 and '-'."""
    target_interval: int
    """T: wanted seconds between blocks, 16 to 2^24 - 1."""
    halving_interval: int
    """Blocks between halvings of the reward."""
    initial_reward: int
    """u64, reward of a block before the first halving."""
    maturity: int
    """Blocks until a reward is credited."""
    max_transactions: int
    """Transfers of a block, at most 65,535."""
    genesis_timestamp: int
    """u64, Unix seconds."""
    initial_difficulty: int
    """u64, between the first and the last rung's work."""
    balances: tuple[tuple[bytes, int], ...]
    """(key[32], amount u64), keys strictly increasing."""
    task: Task
    """What is trained."""


def encode_params(params: ChainParams) -> bytes:
    """`params`. Raises ValueError if a field does not fit."""
    name = params.name.encode("ascii")
    task = encode_task(params.task)
    parts = [
        PARAMS_VERSION.to_bytes(2, "little"),
        bytes([len(name)]),
        name,
        pack(
            _FIXED,
            params.target_interval,
            params.halving_interval,
            params.initial_reward,
            params.maturity,
            params.max_transactions,
            params.genesis_timestamp,
            params.initial_difficulty,
        ),
        len(params.balances).to_bytes(4, "little"),
        *(pack(_BALANCE, key, amount) for key, amount in params.balances),
        len(task).to_bytes(4, "little"),
        task,
    ]
    return b"".join(parts)


def decode_params(data: bytes) -> ChainParams:
    """The parameters in exactly these bytes; decoded, not checked: that is `ChainSpec.build`.

    Raises BadDelivery(UNDECODABLE) or RuleViolation(BAD_PARAMS) for another version.
    """
    reader = Reader(data)
    version = int.from_bytes(reader.take(2), "little")
    if version != PARAMS_VERSION:
        raise RuleViolation(Code.BAD_PARAMS, f"version {version}")
    name = reader.take(reader.take(1)[0])
    if not name.isascii():
        raise BadDelivery(Code.UNDECODABLE, "the name is not ASCII")
    interval, halving, reward, maturity, transactions, timestamp, difficulty = reader.unpack(_FIXED)
    count = reader.take_u32()
    if count * _BALANCE.size > reader.remaining:
        raise BadDelivery(Code.UNDECODABLE, f"{count} balances in {reader.remaining} bytes")
    balances = tuple((key, amount) for key, amount in (reader.unpack(_BALANCE) for _ in range(count)))
    task = decode_task(reader.take(reader.take_u32()))
    reader.finish()
    return ChainParams(
        name=name.decode("ascii"),
        target_interval=interval,
        halving_interval=halving,
        initial_reward=reward,
        maturity=maturity,
        max_transactions=transactions,
        genesis_timestamp=timestamp,
        initial_difficulty=difficulty,
        balances=balances,
        task=task,
    )


def check_params(params: ChainParams) -> None:
    """Raises RuleViolation(BAD_PARAMS) unless every rule of §8 holds. The task is checked by `check_task`."""
    if not 1 <= len(params.name) <= 32 or not set(params.name) <= _NAME_CHARACTERS:
        raise RuleViolation(Code.BAD_PARAMS, f"name {params.name!r}")
    if not 16 <= params.target_interval < 2**24:
        raise RuleViolation(Code.BAD_PARAMS, f"target interval {params.target_interval}")
    if min(params.halving_interval, params.maturity) < 1:
        raise RuleViolation(Code.BAD_PARAMS, "halving interval and maturity are at least 1")
    if params.max_transactions > 65_535:
        raise RuleViolation(Code.BAD_PARAMS, f"{params.max_transactions} transactions a block")
    keys = [key for key, _ in params.balances]
    if any(before >= after for before, after in pairwise(keys)):
        raise RuleViolation(Code.BAD_PARAMS, "the balances' keys are not strictly increasing")
    supply = sum(amount for _, amount in params.balances)
    if supply + 2 * params.initial_reward * params.halving_interval >= 2**63:
        raise RuleViolation(Code.BAD_PARAMS, "the supply could reach 2^63")
    rungs = params.task.rungs
    if not rungs or not rungs[0].work <= params.initial_difficulty <= rungs[-1].work:
        raise RuleViolation(Code.BAD_PARAMS, f"initial difficulty {params.initial_difficulty} off the ladder")


@dataclass(frozen=True)
class ChainSpec:
    """Everything fixed for one chain, checked: made by `ChainSpec.build` alone."""

    params: ChainParams
    dataset: DatasetSpec

    @classmethod
    def build(cls, params: ChainParams, dataset: DatasetSpec) -> ChainSpec:
        """The checked bundle. Raises RuleViolation with BAD_PARAMS, BAD_TASK, BAD_NETWORK or BAD_DATASET."""
        check_dataset_spec(dataset)
        check_params(params)
        check_task(params.task, dataset)
        return cls(params, dataset)

    @property
    def task(self) -> Task:
        """What is trained."""
        return self.params.task

    @cached_property
    def task_id(self) -> Hash32:
        """Id of the task."""
        return self.task.task_id

    @cached_property
    def params_bytes(self) -> bytes:
        """The encoded parameters."""
        return encode_params(self.params)

    @cached_property
    def genesis(self) -> Header:
        """The header of height 0; it is never evaluated, pays nothing and counts no work."""
        return Header(
            version=HEADER_VERSION,
            height=0,
            parent=compute_tagged_hash("FreezeNet/1/params", self.params_bytes),
            parent_witness=ZERO_HASH,
            timestamp=self.params.genesis_timestamp,
            transactions_root=compute_merkle_root([]),
            miner=bytes(32),
            difficulty=self.params.initial_difficulty,
            task_id=self.task_id,
            nonce=0,
        )

    @cached_property
    def chain_id(self) -> Hash32:
        """The genesis block's id: commits to every rule in force."""
        return self.genesis.block_id

    @property
    def genesis_block(self) -> Block:
        """The block of height 0."""
        return Block(self.genesis, (), None)

    @cached_property
    def genesis_accounts(self) -> dict[bytes, Account]:
        """The accounts that genesis funds."""
        return {key: Account(amount) for key, amount in self.params.balances}

    @cached_property
    def limits(self) -> BlockLimits:
        """What bounds a block's size."""
        longest = max(
            compute_solution_bytes(self.task.network, self.task.compute_frozen_count(rung))
            for rung in self.task.rungs
        )
        return BlockLimits(self.params.max_transactions, longest)
