"""Work: what a template asks for, checked against the chain before a second is spent on it.

Fetching is `node.miner.client`'s, training the trainer's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from consensus.address import decode_address
from consensus.block import Block, Header, Witness, encode_block
from consensus.encoding import Hash32
from consensus.errors import ConsensusError
from consensus.params import ChainSpec
from consensus.task import Rung
from consensus.transaction import SignedTransfer, compute_transactions_root, decode_signed


@dataclass(frozen=True, slots=True)
class Work:
    """One template, checked."""

    work_id: str
    """The node's name for it, to long-poll with."""
    header: Header
    """Complete but for the nonce, which is 0: timestamp and difficulty belong together."""
    rung: Rung
    """What the witness must meet."""
    transfers: tuple[SignedTransfer, ...]
    """Those that the header's root covers."""
    is_previous_stale: bool
    """Whether the work named in the long-poll can no longer win."""


def parse_work(spec: ChainSpec, miner: bytes, template: Mapping[str, Any]) -> Work:
    """The work in a template's JSON, for the key[32] to credit.

    Raises ValueError for what this chain would not accept, or what pays somebody else.
    """
    try:
        work = Work(
            work_id=str(template["workid"]),
            header=_parse_header(template["header"]),
            rung=_parse_rung(template["rung"]),
            transfers=tuple(decode_signed(bytes.fromhex(text)) for text in template["transactions"]),
            is_previous_stale=template.get("previous_work") == "stale",
        )
        # What cannot be encoded now could not be once it is trained for.
        encode_block(Block(work.header, work.transfers, Witness(0, 0, b"")))
    except (KeyError, TypeError, ValueError, OverflowError, ConsensusError) as error:
        raise ValueError(f"the template cannot be read: {error!r}") from error
    _check_work(spec, miner, work)
    return work


def _parse_header(fields: Mapping[str, Any]) -> Header:
    return Header(
        version=int(fields["version"]),
        height=int(fields["height"]),
        parent=_parse_hash(fields["parent"]),
        parent_witness=_parse_hash(fields["parent_witness"]),
        timestamp=int(fields["timestamp"]),
        transactions_root=_parse_hash(fields["transactions_root"]),
        miner=decode_address(fields["miner"]),
        difficulty=int(fields["difficulty"]),
        task_id=_parse_hash(fields["task_id"]),
        nonce=0,
    )


def _parse_rung(fields: Mapping[str, Any]) -> Rung:
    return Rung(
        frozen=int(fields["frozen"]),
        min_train_correct=int(fields["min_train_correct"]),
        min_eval_correct=int(fields["min_eval_correct"]),
        work=int(fields["work"]),
    )


def _parse_hash(text: str) -> Hash32:
    value = bytes.fromhex(text)
    if len(value) != 32:
        raise ValueError(f"a hash of {len(value)} bytes")
    return value


def _check_work(spec: ChainSpec, miner: bytes, work: Work) -> None:
    """Easing can ask for less than the header's difficulty; never for more, nor for a rung off the ladder."""
    header = work.header
    if header.task_id != spec.task_id:
        raise ValueError(f"the template is for task {header.task_id.hex()}, the chain's is another")
    if header.miner != miner:
        raise ValueError("the template credits another address")
    if work.rung not in spec.task.rungs or work.rung.work > header.difficulty:
        raise ValueError(f"the template's rung {work.rung} does not follow from its difficulty")
    if compute_transactions_root(work.transfers) != header.transactions_root:
        raise ValueError("the template's transactions do not hash to its root")
