"""The JSON bodies of the interface; u32 as numbers, every u64 as a decimal string.

Owns the form of answers and of the few JSON bodies that are accepted. Single values are spelt by node.fields;
filling the answers is left to node.routes.
"""

from __future__ import annotations

from typing import Annotated, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from node.fields import U64, Address, BigInteger, Hash, HexBytes, Signature, Url

Item = TypeVar("Item")


class Page(BaseModel, Generic[Item]):
    """A part of a list."""

    items: list[Item]
    next: str | None = Field(description="cursor of the next part, null at the end")


class Rung(BaseModel):
    """One step of the difficulty ladder."""

    frozen: int = Field(description="frozen share of the weights, per 10,000")
    min_train_correct: int
    min_eval_correct: int
    work: U64 = Field(description="million training multiply-accumulates")


class DatasetState(BaseModel):
    """A dataset that the chain needs."""

    dataset_id: Hash
    ready: bool = Field(description="whether the node holds all of it and evaluates blocks")


class ChainState(BaseModel):
    """The chain as this node sees it."""

    name: str
    chain_id: Hash
    height: int
    tip: Hash
    chain_work: BigInteger
    timestamp: U64 = Field(description="the tip's")
    difficulty: U64 = Field(description="what the next block must state")
    rung: Rung = Field(description="what the next block must meet at this moment")
    at_last_rung: bool = Field(description="the ladder ends here: blocks may come faster than intended")
    target_interval: int = Field(description="seconds")
    synced: bool = Field(description="whether no peer is known to be ahead")
    datasets: list[DatasetState]
    peers: int
    mempool: int
    version: str = Field(description="of the software")


class Balance(BaseModel):
    """An amount credited by genesis."""

    address: Address
    amount: U64


class Network(BaseModel):
    """The shape of the network."""

    model_config = ConfigDict(from_attributes=True)

    c: int
    h: int
    w: int
    classes: int
    blocks: int
    filters: int
    hidden: int
    weight_count: int


class Task(BaseModel):
    """What is trained."""

    task_id: Hash
    dataset_id: Hash
    network: Network
    rungs: list[Rung]


class Dataset(BaseModel):
    """The description of the dataset."""

    model_config = ConfigDict(from_attributes=True)

    dataset_id: Hash
    c: int
    h: int
    w: int
    classes: int
    n_train: int
    n_eval: int
    train_root: Hash
    eval_root: Hash


class ChainParams(BaseModel):
    """Everything that fixes the chain, in words and in canonical bytes."""

    name: str
    chain_id: Hash
    target_interval: int
    halving_interval: int
    initial_reward: U64
    maturity: int
    max_transactions: int
    max_block_bytes: int
    genesis_timestamp: U64
    initial_difficulty: U64
    balances: list[Balance]
    task: Task
    dataset: Dataset
    params_hex: HexBytes
    task_hex: HexBytes
    dataset_hex: HexBytes


class BlockSummary(BaseModel):
    """A block that may yet leave the active chain."""

    id: Hash
    height: int
    parent: Hash
    timestamp: U64
    miner: Address
    work: U64
    chain_work: BigInteger
    status: Literal["active", "side"]


class Block(BaseModel):
    """What is true of a block for ever."""

    id: Hash
    version: int
    height: int
    parent: Hash
    parent_witness: Hash
    timestamp: U64
    transactions_root: Hash
    miner: Address
    difficulty: U64
    task_id: Hash
    nonce: U64
    rung: Rung | None = Field(description="what its witness had to meet; null for genesis")
    work: U64
    chain_work: BigInteger
    reward: U64
    fees: U64
    transaction_count: int
    witness_id: Hash | None
    train_correct: int | None
    eval_correct: int | None


class BlockStatus(BaseModel):
    """How a block stands now."""

    id: Hash
    height: int
    status: Literal["active", "side"]
    confirmations: int = Field(description="how many-fold the work above it confirms it")
    children: list[Hash]
    witness: Literal["none", "kept", "pruned"]
    witness_committed: bool = Field(description="whether an active child commits to the witness kept here")


class Transfer(BaseModel):
    """A signed transfer."""

    id: Hash
    version: int
    chain_id: Hash
    sender: Address
    recipient: Address
    amount: U64
    fee: U64
    nonce: U64
    signature: Signature


class TransactionPlace(BaseModel):
    """Where a transfer stands on the active chain."""

    id: Hash = Field(description="of the block")
    height: int
    position: int
    timestamp: U64


class Transaction(Transfer):
    """A transfer and where it stands."""

    status: Literal["mined", "pending"]
    block: TransactionPlace | None


class ConfirmedTransaction(Transaction):
    """A transfer, where it stands and how firmly."""

    confirmations: int = Field(description="how many-fold the work above its block confirms it")


class NewTransaction(BaseModel):
    """A signed transfer to be mined."""

    model_config = ConfigDict(extra="forbid")

    version: Annotated[int, Field(ge=0, le=65_535, strict=True)] = 1
    chain_id: Hash
    sender: Address
    recipient: Address
    amount: U64
    fee: U64
    nonce: U64
    signature: Signature


class AcceptedTransaction(BaseModel):
    """A transfer that waits for a block."""

    id: Hash
    status: Literal["pending"]


class Proof(BaseModel):
    """That a block's header covers a transfer: an RFC 6962 audit path, from the leaf upwards."""

    transaction_id: Hash
    block_id: Hash
    height: int
    header_hex: HexBytes
    transactions_root: Hash
    leaf_hash: Hash
    index: int
    count: int
    path: list[Hash]


class AccountState(BaseModel):
    """What an address holds at the tip."""

    address: Address
    public_key: Hash
    balance: BigInteger = Field(description="spendable and immature together")
    spendable: U64
    immature: BigInteger = Field(description="earned by mining, credited when the blocks are mature")
    nonce: U64 = Field(description="of the next transfer on the active chain")
    next_nonce: U64 = Field(description="of the next transfer behind those that wait in the mempool")


class MinerShare(BaseModel):
    """Who mined how many blocks."""

    address: Address
    blocks: int


class Stats(BaseModel):
    """The last blocks of the active chain in numbers."""

    blocks: int = Field(description="how many are counted, genesis never")
    seconds: int = Field(description="by timestamps, from the block before them to the tip")
    mean_interval: float | None = Field(description="seconds; null where no block is counted")
    work: BigInteger = Field(description="of their rungs, million training multiply-accumulates")
    power: float | None = Field(description="work a second")
    transactions: int
    fees: BigInteger
    miners: list[MinerShare] = Field(description="the one with the most blocks first")
    supply: BigInteger = Field(description="all coins at the tip, mature or not")


SearchKind = Literal["block", "transaction", "address"]


class SearchResult(BaseModel):
    """Something of that name."""

    kind: SearchKind
    id: str = Field(description="a hash in hex, or an address")
    url: str = Field(description="where this interface tells of it")


class TemplateHeader(BaseModel):
    """A header without its nonce."""

    version: int
    height: int
    parent: Hash
    parent_witness: Hash
    timestamp: U64
    transactions_root: Hash
    miner: Address
    difficulty: U64
    task_id: Hash


class MiningTemplate(BaseModel):
    """Work for one attempt."""

    workid: str = Field(description="to long-poll with")
    header: TemplateHeader
    rung: Rung
    transactions: list[HexBytes]
    previous_work: Literal["valid", "stale"] = Field(
        description="whether the work named in longpoll can still win; valid where none was named"
    )


class SubmittedBlock(BaseModel):
    """The verdict on a block."""

    id: Hash
    height: int
    status: Literal["active", "side", "valid"] = Field(description="valid: a dry run, nothing is stored")


class Submission(BaseModel):
    """A block whose verdict was not waited for."""

    id: Hash
    height: int
    status: Literal["pending", "active", "side", "refused"]
    code: str | None = Field(description="why it was refused")
    detail: str | None
    status_url: str


class Health(BaseModel):
    """Whether the node serves."""

    status: Literal["live", "ready", "syncing"]


class Peer(BaseModel):
    """A node that this one knows."""

    model_config = ConfigDict(from_attributes=True)

    url: str
    node_id: str | None
    state: str = Field(description="connected, idle, barred or partitioned")
    configured: bool = Field(description="whether the operator named it")
    height: int | None = Field(description="of its tip, as it last said at a handshake or by headers")
    last_seen: float | None = Field(description="Unix seconds of its last answer")
    problem: str | None = Field(description="what last ended the relation")


class PeerAddress(BaseModel):
    """A peer to add."""

    model_config = ConfigDict(extra="forbid")

    url: Url


class PeerToBan(BaseModel):
    """A peer to refuse, by its URL or its node id."""

    model_config = ConfigDict(extra="forbid")

    peer: Annotated[str, StringConstraints(min_length=1, max_length=256)]


class Partition(BaseModel):
    """The peers to refuse traffic with, both ways; none heals the partition."""

    model_config = ConfigDict(extra="forbid")

    blocked: list[Url]


class LogLevel(BaseModel):
    """The least severe level that is logged."""

    model_config = ConfigDict(extra="forbid")

    level: Literal["debug", "info", "warning", "error"]


class Done(BaseModel):
    """An order was carried out."""

    status: Literal["done"] = "done"
