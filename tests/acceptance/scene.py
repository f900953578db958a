"""The chain that hostile submissions are made for, and what a submission is.

Every block built here carries real work for its own header, so that nothing but a broken rule can refuse it.
The submissions themselves are those of tests.acceptance.hostile_*.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from chain.keys import SigningKey
from consensus.block import Header, Witness
from consensus.errors import Code
from consensus.params import ChainSpec
from consensus.transaction import SignedTransfer
from tests.acceptance.real_work import finish_real_block, mine_real_block
from tests.builders import (
    ALICE,
    BOB,
    CAROL,
    BuiltBlock,
    build_genesis,
    build_header,
    build_spec,
    build_transfer,
)


@dataclass(frozen=True)
class Scene:
    """A chain of two blocks, and the honest block that would be its third."""

    spec: ChainSpec
    genesis: BuiltBlock
    first: BuiltBlock
    tip: BuiltBlock

    @cached_property
    def honest(self) -> BuiltBlock:
        """A valid child of the tip with two transfers."""
        return mine_real_block(self.spec, self.tip, [self.pay(ALICE, nonce=1), self.pay(BOB)])

    def pay(self, sender: SigningKey, amount: int = 100, *, fee: int = 1, nonce: int = 0) -> SignedTransfer:
        """A transfer to CAROL."""
        return build_transfer(self.spec, sender, CAROL.public, amount, fee=fee, nonce=nonce)

    def build_header(self, transfers: Sequence[SignedTransfer] = (), **changes: Any) -> Header:
        """The header of a child of the tip, valid but for the fields changed."""
        return replace(build_header(self.spec, self.tip, transfers), **changes)

    def mine(self, transfers: Sequence[SignedTransfer] = (), **changes: Any) -> bytes:
        """A child of the tip with real work for a header with these fields changed."""
        return finish_real_block(self.spec, self.tip, self.build_header(transfers, **changes), transfers).raw

    def mine_on(self, parent: BuiltBlock, transfers: Sequence[SignedTransfer] = (), **changes: Any) -> bytes:
        """As `mine`, on any parent."""
        header = replace(build_header(self.spec, parent, transfers), **changes)
        return finish_real_block(self.spec, parent, header, transfers).raw

    def claim(self, built: BuiltBlock, train_correct: int, eval_correct: int) -> bytes:
        """A block with other claims."""
        return built.with_witness(Witness(train_correct, eval_correct, built.witness.solution)).raw


Build = Callable[[Scene], bytes]


@dataclass(frozen=True, slots=True)
class Hostile:
    """One submission and the code that it must be refused with."""

    name: str
    code: Code
    build: Build
    evaluations: int = 0
    """Evaluations that it costs the node: what can be told without one is told without one."""
    before: Build | None = None
    """What is handed in first, and refused too."""


def build_scene() -> Scene:
    """The chain; its second block holds ALICE's first transfer."""
    spec = build_spec()
    genesis = build_genesis(spec)
    first = mine_real_block(spec, genesis)
    tip = mine_real_block(spec, first, [build_transfer(spec, ALICE, BOB.public)])
    return Scene(spec, genesis, first, tip)
