"""Blocks of the tiny chain of tests.builders under witnesses that the real evaluator accepts.

Owns searching headers whose network has a wanted property. Spoiling blocks is tests.acceptance.submissions'.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

from consensus.block import Header, Witness
from consensus.dataset import SplitName
from consensus.errors import BadDelivery, Code
from consensus.evaluation import NormativeWorkVerifier, rebuild_network
from consensus.network import compute_classes, count_correct
from consensus.params import ChainSpec
from consensus.transaction import SignedTransfer
from node.dev_chain import shift_bias
from tests.builders import (
    BuiltBlock,
    build_dataset,
    build_header,
    finish_block,
    get_rung,
    solve_witness,
)


def finish_real_block(
    spec: ChainSpec, parent: BuiltBlock, header: Header, transfers: Sequence[SignedTransfer] = ()
) -> BuiltBlock:
    """The block of a header, broken or not, with a network that meets its rung."""
    witness = solve_witness(spec, header, get_rung(spec, parent, header))
    return finish_block(spec, parent, header, transfers, witness)


def mine_real_block(
    spec: ChainSpec, parent: BuiltBlock, transfers: Sequence[SignedTransfer] = (), **options: Any
) -> BuiltBlock:
    """A valid child of any parent; `options` as for `tests.builders.build_header`."""
    return finish_real_block(spec, parent, build_header(spec, parent, transfers, **options), transfers)


def mine_real_blocks(spec: ChainSpec, parent: BuiltBlock, number: int, **options: Any) -> list[BuiltBlock]:
    """So many valid blocks in a row."""
    mined: list[BuiltBlock] = []
    for _ in range(number):
        mined.append(mine_real_block(spec, mined[-1] if mined else parent, **options))
    return mined


def build_twin(spec: ChainSpec, built: BuiltBlock, number: int = 1) -> Witness:
    """Another valid witness of the same header: every bias `number` higher, so that no prediction changes."""
    assert built.parent is not None
    witness = built.witness
    for _ in range(number):
        witness = shift_bias(spec.task, get_rung(spec, built.parent, built.header), witness)
    return witness


def iterate_drawn(spec: ChainSpec, parent: BuiltBlock) -> Iterator[BuiltBlock]:
    """Valid children of a parent, another network each, without end."""
    for nonce in count(1_000):
        yield mine_real_block(spec, parent, nonce=nonce)


def mine_wrong_on_last(spec: ChainSpec, parent: BuiltBlock, split: SplitName) -> BuiltBlock:
    """A valid block whose network is wrong on the last record of a split."""
    return next(built for built in iterate_drawn(spec, parent) if not _is_last_right(spec, built, split))


def recount(spec: ChainSpec, built: BuiltBlock, solution: bytes) -> BuiltBlock:
    """The block with another well-formed solution, its true counts claimed."""
    assert built.parent is not None
    rung = get_rung(spec, built.parent, built.header)
    network = rebuild_network(spec.task, rung, built.header, replace(built.witness, solution=solution))
    splits = (build_dataset().train, build_dataset().eval)
    train, right = (count_correct(network, split.pixels, split.labels) for split in splits)
    return built.with_witness(Witness(train, right, solution))


def meets_rung(spec: ChainSpec, built: BuiltBlock) -> bool:
    """Whether the claims of a block are high enough."""
    assert built.parent is not None
    rung, witness = get_rung(spec, built.parent, built.header), built.witness
    return witness.train_correct >= rung.min_train_correct and witness.eval_correct >= rung.min_eval_correct


def steal_work(
    spec: ChainSpec, honest: BuiltBlock, forge: Callable[[Header, int], Header], code: Code
) -> BuiltBlock:
    """Somebody else's witness under a header forged in one field, such that the normative verdict is `code`.

    `forge` makes ever other headers of a number: under some of them the counts come out right by chance.
    """
    forged = (replace(honest, block=replace(honest.block, header=forge(honest.header, n))) for n in count(1))
    return next(built for built in forged if _judge(spec, built) is code)


def _is_last_right(spec: ChainSpec, built: BuiltBlock, split: SplitName) -> bool:
    assert built.parent is not None
    rung = get_rung(spec, built.parent, built.header)
    records = build_dataset().get_split(split)
    network = rebuild_network(spec.task, rung, built.header, built.witness)
    return bool(compute_classes(network, records.pixels[-1:])[0] == records.labels[-1])


def _judge(spec: ChainSpec, built: BuiltBlock) -> Code | None:
    assert built.parent is not None
    rung = get_rung(spec, built.parent, built.header)
    try:
        NormativeWorkVerifier(build_dataset()).check(spec.task, rung, built.header, built.witness)
    except BadDelivery as refusal:
        return refusal.code
    return None
