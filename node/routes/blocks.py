"""Blocks by height, id or `tip`: their headers, transfers, bytes and networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from chain.records import BlockRecord
from chain.view import View
from consensus.encoding import U32_MAX
from node import models
from node.network_file import encode_network_file
from node.problems import ApiCode, ApiError, describe_problems
from node.routes import answers
from node.routes.access import Cursor, Limit, Runtime, decode_cursor, encode_cursor, hold_network
from node.routes.bodies import BINARY
from node.routes.caching import NOT_MODIFIED, IfNoneMatch, build_cached_response
from node.runtime import NodeRuntime

router = APIRouter(prefix="/v1/blocks", tags=["blocks"])
_RESPONSES = NOT_MODIFIED | describe_problems(404)

Reference = Annotated[str, Path(max_length=64, description="a height, a block id in hex, or `tip`")]


@router.get("", responses=describe_problems())
def list_blocks(runtime: Runtime, cursor: Cursor = None, limit: Limit = 50) -> models.Page[models.Block]:
    """The active chain, newest first."""
    before = decode_cursor(cursor, 1)
    with runtime.store.read() as view:
        records = view.list_blocks(None if before is None else before[0], limit)
    items = [answers.describe_block(runtime.spec, record) for record in records]
    last = records[-1].height if records else 0
    return models.Page(items=items, next=encode_cursor(last) if last else None)


@router.get("/{block}", response_model=models.Block, responses=_RESPONSES)
def get_block(runtime: Runtime, block: Reference, if_none_match: IfNoneMatch = None) -> Response:
    """What is true of a block for ever; how it stands now is in `/status`."""
    with runtime.store.read() as view:
        record = find_block(view, block)
        answer = answers.describe_block(runtime.spec, record)
        is_final = answers.is_witness_committed(view, record)
    return build_cached_response(
        _tag_witness(record),
        if_none_match,
        is_final and _is_id(block),
        lambda: answer.model_dump_json().encode(),
    )


@router.get("/{block}/status", responses=describe_problems(404))
def get_block_status(runtime: Runtime, block: Reference) -> models.BlockStatus:
    """Whether a block is active, how firmly, and what builds on it."""
    with runtime.store.read() as view:
        return answers.describe_block_status(view, find_block(view, block))


@router.get("/{block}/transactions", response_model=models.Page[models.Transfer], responses=_RESPONSES)
def list_block_transactions(
    runtime: Runtime,
    block: Reference,
    cursor: Cursor = None,
    limit: Limit = 50,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """The transfers of a block, in block order."""
    with runtime.store.read() as view:
        record = find_block(view, block)
        page = page_transfers(view, record, cursor, limit)
    # The header covers the transfers, so by id this page is settled from the first moment.
    tag = f"{record.block_id.hex()}.{cursor or ''}.{limit}"
    return build_cached_response(tag, if_none_match, _is_id(block), lambda: page.model_dump_json().encode())


@router.get(
    "/{block}/raw",
    response_class=Response,
    responses={200: {"content": {BINARY: {}}}, **_RESPONSES},
)
def get_raw_block(runtime: Runtime, block: Reference, if_none_match: IfNoneMatch = None) -> Response:
    """The block's canonical bytes (protocol §4)."""
    return _answer_witness(
        runtime, block, if_none_match, lambda view, record: view.get_raw_block(record.block_id)
    )


@router.get(
    "/{block}/model",
    response_class=Response,
    responses={200: {"content": {BINARY: {}}}, **_RESPONSES, **describe_problems(429)},
)
async def get_model(
    runtime: Runtime, request: Request, block: Reference, if_none_match: IfNoneMatch = None
) -> Response:
    """The network as a safetensors file: int8 weights, M and B of every normalised layer, bias."""

    def build(view: View, record: BlockRecord) -> bytes | None:
        witness = view.get_witness(record.block_id)
        rung = answers.get_rung(runtime.spec, record)
        if witness is None or rung is None:
            return None
        return encode_network_file(runtime.spec.task, rung, record.header, witness)

    with hold_network(request):
        return await run_in_threadpool(_answer_witness, runtime, block, if_none_match, build)


def page_transfers(
    view: View, record: BlockRecord, cursor: str | None, limit: int
) -> models.Page[models.Transfer]:
    """A part of a block's transfers, in block order. Raises ApiError(BAD_CURSOR)."""
    start = (decode_cursor(cursor, 1) or (0,))[0]
    stop = start + limit
    transfers = view.get_transfers(record.block_id)
    return models.Page(
        items=[answers.describe_transfer(signed) for signed in transfers[start:stop]],
        next=encode_cursor(stop) if stop < len(transfers) else None,
    )


def find_block(view: View, reference: str) -> BlockRecord:
    """The block of a height, an id or `tip`. Raises ApiError(BAD_REQUEST) or (NOT_FOUND)."""
    if reference == "tip":
        return view.get_tip()
    record = None
    if _is_id(reference):
        record = view.get_block(bytes.fromhex(reference))
    elif reference.isascii() and reference.isdigit():
        record = view.get_active_block(int(reference)) if int(reference) <= U32_MAX else None
    else:
        raise ApiError(ApiCode.BAD_REQUEST, f"{reference!r} is no height, no block id and not `tip`")
    if record is None:
        raise ApiError(ApiCode.NOT_FOUND, f"block {reference} is not known here")
    return record


def _answer_witness(
    runtime: NodeRuntime,
    reference: str,
    if_none_match: str | None,
    build: Callable[[View, BlockRecord], bytes | None],
) -> Response:
    """An answer with a witness in it, which may be pruned."""
    with runtime.store.read() as view:
        record = find_block(view, reference)
        is_final = answers.is_witness_committed(view, record) and _is_id(reference)

        def build_body() -> bytes:
            body = build(view, record)
            if body is None:
                code = ApiCode.WITNESS_PRUNED if record.height else ApiCode.NOT_FOUND
                raise ApiError(code, f"block {record.block_id.hex()} has no witness here")
            return body

        return build_cached_response(_tag_witness(record), if_none_match, is_final, build_body, BINARY)


def _is_id(reference: str) -> bool:
    return len(reference) == 64 and set(reference) <= set("0123456789abcdef")


def _tag_witness(record: BlockRecord) -> str:
    """Names the block and the witness kept here, which alone may change."""
    witness = "" if record.witness_id is None else record.witness_id.hex()
    return f"{record.block_id.hex()}.{witness}"
