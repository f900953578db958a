"""What a height, a hash or an address names."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from consensus.address import decode_address
from consensus.encoding import U32_MAX
from consensus.errors import RuleViolation
from node import models
from node.problems import describe_problems
from node.routes.access import Runtime
from node.runtime import NodeRuntime

router = APIRouter(prefix="/v1/search", tags=["chain"])
LONGEST = 128

Question = Annotated[str, Query(max_length=LONGEST, description="a height, an id in hex, or an address")]


@router.get("", responses=describe_problems())
def search(runtime: Runtime, q: Question) -> models.Page[models.SearchResult]:
    """Blocks, transfers and addresses of that name; nothing where none is known.

    An address is found whether or not it was ever seen: it has a balance, of nothing.
    """
    return models.Page(items=find(runtime, q), next=None)


def find(runtime: NodeRuntime, question: str) -> list[models.SearchResult]:
    """What the question names; capitals and blanks about it do not matter."""
    name = question.strip().lower()
    if len(name) == 64 and set(name) <= set("0123456789abcdef"):
        return _find_hash(runtime, bytes.fromhex(name))
    if name.isascii() and name.isdigit() and int(name) <= U32_MAX:
        with runtime.store.read() as view:
            record = view.get_active_block(int(name))
        return [] if record is None else [_build_result("block", record.block_id.hex())]
    try:
        decode_address(name)
    except RuleViolation:
        return []
    return [_build_result("address", name)]


def _find_hash(runtime: NodeRuntime, value: bytes) -> list[models.SearchResult]:
    with runtime.store.read() as view:
        is_block = view.get_block(value) is not None
        is_mined = view.get_transaction(value) is not None
    results = [_build_result("block", value.hex())] if is_block else []
    if is_mined or runtime.mempool.get(value) is not None:
        results.append(_build_result("transaction", value.hex()))
    return results


def _build_result(kind: models.SearchKind, name: str) -> models.SearchResult:
    plural = {"block": "blocks", "transaction": "transactions", "address": "addresses"}[kind]
    return models.SearchResult(kind=kind, id=name, url=f"/v1/{plural}/{name}")
