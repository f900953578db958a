"""Transfers: one by id, the proof of its place, those that wait, and new ones."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request
from starlette.concurrency import run_in_threadpool

from chain.errors import PoolRefusal
from chain.records import TransactionRecord
from chain.view import View
from consensus.block import encode_header
from consensus.errors import ConsensusError
from consensus.merkle import compute_audit_path, compute_leaf_hash
from consensus.transaction import SIGNED_BYTES, SignedTransfer, Transfer, decode_signed
from node import models
from node.fields import Hash
from node.problems import ApiCode, ApiError, describe_problems
from node.routes.access import Cursor, Limit, Runtime, decode_cursor, encode_cursor
from node.routes.answers import describe_mined, describe_pending
from node.routes.bodies import BINARY, JSON, MAX_JSON_BYTES, describe_body, parse_json, read_body, refer_to
from node.runtime import NodeRuntime

router = APIRouter(prefix="/v1", tags=["transactions"])

TransactionId = Annotated[Hash, Path(description="id in hex")]


@router.get("/transactions/{transaction_id}", responses=describe_problems(404))
def get_transaction(runtime: Runtime, transaction_id: TransactionId) -> models.ConfirmedTransaction:
    """A transfer of the active chain or of the mempool."""
    with runtime.store.read() as view:
        mined = view.get_transaction(transaction_id)
        if mined is not None:
            confirmations = view.compute_confirmations(mined.block)
            return models.ConfirmedTransaction(**dict(describe_mined(mined)), confirmations=confirmations)
    pending = runtime.mempool.get(transaction_id)
    if pending is None:
        raise ApiError(ApiCode.NOT_FOUND, f"transaction {transaction_id.hex()} is not known here")
    return models.ConfirmedTransaction(**dict(describe_pending(pending)), confirmations=0)


@router.get("/transactions/{transaction_id}/proof", responses=describe_problems(404))
def get_proof(runtime: Runtime, transaction_id: TransactionId) -> models.Proof:
    """That the header of a block of the active chain covers a transfer."""
    with runtime.store.read() as view:
        mined = view.get_transaction(transaction_id)
        if mined is None:
            raise ApiError(ApiCode.NOT_FOUND, f"transaction {transaction_id.hex()} is in no active block")
        return _prove(view, mined)


@router.get("/mempool", responses=describe_problems())
def list_mempool(
    runtime: Runtime, cursor: Cursor = None, limit: Limit = 50
) -> models.Page[models.Transaction]:
    """Transfers that wait for a block, in order of arrival."""
    start = decode_cursor(cursor, 1)
    waiting, following = runtime.mempool.list(None if start is None else start[0], limit)
    items = [describe_pending(signed) for signed in waiting]
    return models.Page(items=items, next=None if following is None else encode_cursor(following))


@router.post(
    "/transactions",
    status_code=201,
    responses=describe_problems(408, 409, 413, 422, 425, 429),
    openapi_extra=describe_body(
        {JSON: refer_to(models.NewTransaction), BINARY: {"type": "string", "format": "binary"}}
    ),
)
async def post_transaction(runtime: Runtime, request: Request) -> models.AcceptedTransaction:
    """Take a signed transfer, as JSON or as its 186 canonical bytes, and pass it on to the peers."""
    is_json = request.headers.get("content-type", "").partition(";")[0].strip().lower() == JSON
    body = await read_body(request, MAX_JSON_BYTES if is_json else SIGNED_BYTES)
    if not is_json and body.startswith(b"{"):
        raise ApiError(ApiCode.BAD_REQUEST, f"JSON needs the header Content-Type: {JSON}")
    tx_id = await run_in_threadpool(_add, runtime, parse_transfer(body) if is_json else decode_signed(body))
    runtime.network.announce_transaction(tx_id)
    return models.AcceptedTransaction(id=tx_id, status="pending")


def parse_transfer(body: bytes) -> SignedTransfer:
    """The transfer in a JSON body. Raises ApiError(BAD_REQUEST)."""
    fields = parse_json(body, models.NewTransaction)
    transfer = Transfer(
        version=fields.version,
        chain_id=fields.chain_id,
        sender=fields.sender,
        recipient=fields.recipient,
        amount=fields.amount,
        fee=fields.fee,
        nonce=fields.nonce,
    )
    return SignedTransfer(transfer, fields.signature)


def _add(runtime: NodeRuntime, signed: SignedTransfer) -> bytes:
    try:
        return runtime.mempool.add(signed)
    except (ConsensusError, PoolRefusal) as error:
        runtime.metrics.count_rejection(error)
        raise


def _prove(view: View, record: TransactionRecord) -> models.Proof:
    header, block_id = record.block.header, record.block.block_id
    # The leaves are the ids themselves, so their leaf hashes are the RFC's (protocol §7).
    hashes = [compute_leaf_hash(signed.tx_id) for signed in view.get_transfers(block_id)]
    return models.Proof(
        transaction_id=record.signed.tx_id,
        block_id=block_id,
        height=header.height,
        header_hex=encode_header(header),
        transactions_root=header.transactions_root,
        leaf_hash=hashes[record.position],
        index=record.position,
        count=len(hashes),
        path=compute_audit_path(hashes, record.position),
    )
