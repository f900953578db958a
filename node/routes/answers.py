"""From what the chain hands out to the JSON of the interface. Pure but for reads of the view given."""

from __future__ import annotations

from dataclasses import asdict

from chain.records import BlockRecord, TransactionRecord
from chain.view import View
from consensus import task as consensus_task
from consensus.dataset import encode_dataset_spec
from consensus.ledger import compute_reward
from consensus.params import ChainSpec
from consensus.task import encode_task
from consensus.transaction import SignedTransfer
from node import models


def describe_rung(rung: consensus_task.Rung) -> models.Rung:
    """A rung."""
    return models.Rung(**asdict(rung))


def describe_params(spec: ChainSpec) -> models.ChainParams:
    """Everything that fixes a chain."""
    params = spec.params
    return models.ChainParams(
        name=params.name,
        chain_id=spec.chain_id,
        target_interval=params.target_interval,
        halving_interval=params.halving_interval,
        initial_reward=params.initial_reward,
        maturity=params.maturity,
        max_transactions=params.max_transactions,
        max_block_bytes=spec.limits.max_block_bytes,
        genesis_timestamp=params.genesis_timestamp,
        initial_difficulty=params.initial_difficulty,
        balances=[models.Balance(address=key, amount=amount) for key, amount in params.balances],
        task=_describe_task(spec),
        dataset=models.Dataset.model_validate(spec.dataset),
        params_hex=spec.params_bytes,
        task_hex=encode_task(spec.task),
        dataset_hex=encode_dataset_spec(spec.dataset),
    )


def get_rung(spec: ChainSpec, record: BlockRecord) -> consensus_task.Rung | None:
    """What the witness of a stored block had to meet; None for genesis."""
    # The works of a ladder are all different, so the work alone names the rung.
    return spec.task.get_rung(record.work) if record.height else None


def describe_block(spec: ChainSpec, record: BlockRecord) -> models.Block:
    """What is true of a block for ever, but for the witness, which a child settles."""
    header, params = record.header, spec.params
    rung = get_rung(spec, record)
    return models.Block(
        id=record.block_id,
        version=header.version,
        height=header.height,
        parent=header.parent,
        parent_witness=header.parent_witness,
        timestamp=header.timestamp,
        transactions_root=header.transactions_root,
        miner=header.miner,
        difficulty=header.difficulty,
        task_id=header.task_id,
        nonce=header.nonce,
        rung=None if rung is None else describe_rung(rung),
        work=record.work,
        chain_work=record.chain_work,
        reward=compute_reward(header.height, params.initial_reward, params.halving_interval) if rung else 0,
        fees=record.fees,
        transaction_count=record.transaction_count,
        witness_id=record.witness_id,
        train_correct=record.train_correct,
        eval_correct=record.eval_correct,
    )


def summarise_block(record: BlockRecord) -> models.BlockSummary:
    """A block in a few words."""
    return models.BlockSummary(
        id=record.block_id,
        height=record.height,
        parent=record.header.parent,
        timestamp=record.header.timestamp,
        miner=record.header.miner,
        work=record.work,
        chain_work=record.chain_work,
        status="active" if record.active else "side",
    )


def is_witness_committed(view: View, record: BlockRecord) -> bool:
    """Whether an active child commits to the witness kept here: only then is it the block's for ever."""
    return record.height == 0 or any(
        child.active and child.header.parent_witness == record.witness_id
        for child in view.get_children(record.block_id)
    )


def describe_block_status(view: View, record: BlockRecord) -> models.BlockStatus:
    """How a block stands now."""
    kept = view.get_witness(record.block_id) is not None
    return models.BlockStatus(
        id=record.block_id,
        height=record.height,
        status="active" if record.active else "side",
        confirmations=view.compute_confirmations(record),
        children=[child.block_id for child in view.get_children(record.block_id)],
        witness="kept" if kept else "pruned" if record.height else "none",
        witness_committed=is_witness_committed(view, record),
    )


def describe_transfer(signed: SignedTransfer) -> models.Transfer:
    """A signed transfer alone."""
    transfer = signed.transfer
    return models.Transfer(
        id=signed.tx_id,
        version=transfer.version,
        chain_id=transfer.chain_id,
        sender=transfer.sender,
        recipient=transfer.recipient,
        amount=transfer.amount,
        fee=transfer.fee,
        nonce=transfer.nonce,
        signature=signed.signature,
    )


def describe_pending(signed: SignedTransfer) -> models.Transaction:
    """A transfer that waits in the mempool."""
    return models.Transaction(**dict(describe_transfer(signed)), status="pending", block=None)


def describe_mined(record: TransactionRecord) -> models.Transaction:
    """A transfer of the active chain."""
    block = record.block
    place = models.TransactionPlace(
        id=block.block_id, height=block.height, position=record.position, timestamp=block.header.timestamp
    )
    return models.Transaction(**dict(describe_transfer(record.signed)), status="mined", block=place)


def _describe_task(spec: ChainSpec) -> models.Task:
    return models.Task(
        task_id=spec.task_id,
        dataset_id=spec.task.dataset_id,
        network=models.Network.model_validate(spec.task.network),
        rungs=[describe_rung(rung) for rung in spec.task.rungs],
    )
