"""Nodes as a devnet sees them, in process: unchecked blocks behind /v1/chain, raw blocks and metrics."""

from __future__ import annotations

from dataclasses import dataclass, field

import httpx

from consensus.block import Block, Header, Witness, encode_block
from consensus.merkle import compute_merkle_root
from consensus.params import ChainSpec
from tests.node.miner.fake_node import build_tiny_spec

SPEC = build_tiny_spec()


def build_block(parent: Header, miner: bytes, seconds: int = 20, spec: ChainSpec = SPEC) -> Block:
    """A child of `parent`; its witness proves nothing."""
    header = Header(
        version=1,
        height=parent.height + 1,
        parent=parent.block_id,
        parent_witness=bytes(32),
        timestamp=parent.timestamp + seconds,
        transactions_root=compute_merkle_root([]),
        miner=miner,
        difficulty=1_000,
        task_id=spec.task_id,
        nonce=0,
    )
    return Block(header, (), Witness(5, 4, b"solution"))


def build_blocks(count: int, miner: bytes = bytes(32), parent: Header = SPEC.genesis) -> list[Block]:
    """A branch above `parent`."""
    blocks: list[Block] = []
    for _ in range(count):
        blocks.append(build_block(blocks[-1].header if blocks else parent, miner))
    return blocks


@dataclass
class FakeNetwork:
    """http://NAME serves the branch of that name; a name without one is silent."""

    branches: dict[str, list[Block]]
    evaluated: int = 7
    requests: list[str] = field(default_factory=list)

    @property
    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self.answer)

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request.url.path)
        branch = self.branches.get(request.url.host)
        if branch is None:
            raise httpx.ConnectError("connection refused", request=request)
        match request.url.path.strip("/").split("/"):
            case ["v1", "chain"]:
                return httpx.Response(200, json=self._describe(branch))
            case ["v1", "blocks", block_id, "raw"]:
                return self._find(block_id)
            case ["metrics"]:
                metric = "freezenet_blocks_evaluated_total"
                return httpx.Response(200, text=f"# TYPE {metric} counter\n{metric} {self.evaluated}.0\n")
        return httpx.Response(404)

    def _describe(self, branch: list[Block]) -> dict[str, object]:
        tip = branch[-1].header if branch else SPEC.genesis
        return {
            "height": tip.height,
            "tip": tip.block_id.hex(),
            "peers": 2,
            "mempool": 1,
            "synced": True,
            "datasets": [{"ready": True}],
        }

    def _find(self, block_id: str) -> httpx.Response:
        for block in (block for branch in self.branches.values() for block in branch):
            if block.header.block_id.hex() == block_id:
                return httpx.Response(200, content=encode_block(block))
        return httpx.Response(404)
