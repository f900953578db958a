"""A node as a miner sees it, in process: parameters, templates, long-polls and verdicts over a transport."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import numpy as np

from consensus.address import decode_address, encode_address
from consensus.block import Block, Header, decode_block
from consensus.dataset import describe_dataset, encode_dataset_spec, encode_split
from consensus.encoding import ZERO_HASH
from consensus.merkle import compute_merkle_root
from consensus.network import NetworkSpec
from consensus.params import ChainParams, ChainSpec
from consensus.task import Rung, Task

TINY_RECORDS = encode_split(np.arange(8, dtype=np.uint8) % 2, np.zeros((8, 1, 4, 4), dtype=np.uint8))
"""Both splits of the tiny dataset."""
MINER = bytes(range(32))
ADDRESS = encode_address(MINER)


def build_tiny_spec(name: str = "tiny") -> ChainSpec:
    """A chain that nobody could train for: its task only has to be valid."""
    records = TINY_RECORDS
    dataset = describe_dataset(2, (1, 4, 4), records, records)
    rungs = (Rung(9_000, 4, 3, 1_000), Rung(9_000, 5, 4, 2_000))
    task = Task(dataset.dataset_id, NetworkSpec(1, 4, 4, 2, 1, 8, 16), rungs)
    params = ChainParams(name, 20, 1_000, 50, 5, 16, 1_700_000_000, 1_000, (), task)
    return ChainSpec.build(params, dataset)


@dataclass
class FakeNode:
    """Answers as the REST interface does; `down` and `problems` make it fail."""

    spec: ChainSpec = field(default_factory=build_tiny_spec)
    height: int = 0
    is_down: bool = False
    problems: list[tuple[int, str]] = field(default_factory=list)
    """(status, code) for the next submissions, first one first."""
    template_problems: list[tuple[int, str]] = field(default_factory=list)
    """The same for the next templates."""
    retry_after: str | None = None
    """Said with every problem."""
    blocks: list[Block] = field(default_factory=list)
    dry_runs: list[Block] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    change_header: Callable[[Header], Header] = lambda header: header
    rung: Rung | None = None
    transaction_round: int = 0

    def __post_init__(self) -> None:
        self._changed = asyncio.Condition()

    async def advance(self) -> None:
        """Another miner's block moves the tip."""
        async with self._changed:
            self.height += 1
            self._changed.notify_all()

    async def refresh_transactions(self) -> None:
        """New work on the same tip."""
        async with self._changed:
            self.transaction_round += 1
            self._changed.notify_all()

    @property
    def work_id(self) -> str:
        return f"{self.height}-{self.transaction_round}"

    async def handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(f"{request.method} {request.url.path}")
        if self.is_down:
            raise httpx.ConnectError("connection refused", request=request)
        match request.method, request.url.path:
            case "GET", "/v1/chain/params":
                return httpx.Response(200, json=self._build_params())
            case "GET", "/v1/mining/template":
                return await self._answer_template(request)
            case "POST", "/v1/mining/blocks":
                return self._judge(request)
        return httpx.Response(404, json={"code": "not-found"})

    def _build_params(self) -> dict[str, Any]:
        return {
            "params_hex": self.spec.params_bytes.hex(),
            "dataset_hex": encode_dataset_spec(self.spec.dataset).hex(),
            "target_interval": self.spec.params.target_interval,
        }

    async def _answer_template(self, request: httpx.Request) -> httpx.Response:
        if self.template_problems:
            return self._build_problem(*self.template_problems.pop(0))
        previous = request.url.params.get("longpoll")
        async with self._changed:
            await self._changed.wait_for(lambda: previous != self.work_id)
        is_stale = previous is not None and previous.split("-")[0] != str(self.height)
        rung = self.rung or self.spec.task.rungs[0]
        header = self.change_header(self._build_header(decode_address(request.url.params["address"])))
        return httpx.Response(
            200,
            json={
                "workid": self.work_id,
                "header": describe_header(header),
                "rung": {
                    "frozen": rung.frozen,
                    "min_train_correct": rung.min_train_correct,
                    "min_eval_correct": rung.min_eval_correct,
                    "work": str(rung.work),
                },
                "transactions": [],
                "previous_work": "stale" if is_stale else "valid",
            },
        )

    def _build_header(self, miner: bytes) -> Header:
        return replace(
            self.spec.genesis,
            height=self.height + 1,
            parent=self.height.to_bytes(32, "little"),
            parent_witness=ZERO_HASH,
            timestamp=1_700_000_000 + 20 * self.height,
            transactions_root=compute_merkle_root([]),
            miner=miner,
            difficulty=1_000,
        )

    def _judge(self, request: httpx.Request) -> httpx.Response:
        block = decode_block(request.content, self.spec.limits)
        if self.problems:
            return self._build_problem(*self.problems.pop(0))
        verdict = {"id": block.header.block_id.hex(), "height": block.header.height}
        if request.url.params.get("dry_run") == "1":
            self.dry_runs.append(block)
            return httpx.Response(200, json=verdict)
        self.blocks.append(block)
        self.height += 1
        return httpx.Response(201, json={**verdict, "status": "active"})

    def _build_problem(self, status: int, code: str) -> httpx.Response:
        body = json.dumps({"status": status, "code": code, "detail": "as the test wants it"})
        headers = {"content-type": "application/problem+json"}
        if self.retry_after is not None:
            headers["retry-after"] = self.retry_after
        return httpx.Response(status, content=body, headers=headers)


def build_transport(**nodes: FakeNode) -> httpx.MockTransport:
    """http://NAME leads to the node of that name."""

    async def route(request: httpx.Request) -> httpx.Response:
        return await nodes[request.url.host].handle(request)

    return httpx.MockTransport(route)


def describe_header(header: Header) -> dict[str, Any]:
    """The JSON of a template's header: hashes in hex, u64 as text, the miner as an address, no nonce."""
    return {
        "version": header.version,
        "height": header.height,
        "parent": header.parent.hex(),
        "parent_witness": header.parent_witness.hex(),
        "timestamp": str(header.timestamp),
        "transactions_root": header.transactions_root.hex(),
        "miner": encode_address(header.miner),
        "difficulty": str(header.difficulty),
        "task_id": header.task_id.hex(),
    }
