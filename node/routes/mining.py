"""Work for miners, and the blocks that they bring back."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool

from consensus.address import decode_address
from consensus.block import HEADER_BYTES, decode_header
from consensus.transaction import encode_signed
from node import models
from node.fields import Hash
from node.importing import Source
from node.mining import Template, build_template, wait_for_work
from node.p2p.gate import get_client_host
from node.p2p.urls import get_subnet
from node.problems import ApiCode, ApiError, describe_problems
from node.routes.access import Runtime, hold_long_poll, hold_submission, require_evaluation
from node.routes.answers import describe_rung
from node.routes.bodies import BINARY, JSON, describe_body, read_body, run_while_connected
from node.runtime import NodeRuntime
from node.submissions import SubmissionRecord

router = APIRouter(prefix="/v1/mining", tags=["mining"])
MAX_LONG_POLL_SECONDS = 60
WORK_ID_PATTERN = "^[0-9a-f]{64}$"


@router.get(
    "/template",
    response_model=models.MiningTemplate,
    dependencies=[Depends(hold_long_poll)],
    responses=describe_problems(429),
)
async def get_template(
    runtime: Runtime,
    request: Request,
    address: Annotated[str, Query(max_length=128, description="to credit")],
    longpoll: Annotated[
        str | None, Query(pattern=WORK_ID_PATTERN, description="a workid: answer once there is newer work")
    ] = None,
    timeout: Annotated[
        int, Query(ge=0, le=MAX_LONG_POLL_SECONDS, description="longest wait of a long-poll in seconds")
    ] = MAX_LONG_POLL_SECONDS,
) -> Response:
    """Work for one attempt: change the nonce alone; timestamp and difficulty belong together."""
    miner = decode_address(address)
    require_evaluation(runtime)
    wait_seconds = 0 if longpoll is None else timeout
    waiting = wait_for_work(runtime.work_source, runtime.events, longpoll, wait_seconds)
    work = await run_while_connected(request, waiting)
    if runtime.events.is_closed:
        raise ApiError(ApiCode.SHUTTING_DOWN)
    template = build_template(runtime.spec, work, miner, int(runtime.clock()))
    # A full block's transfers are megabytes of hex, which the event loop leaves to a thread.
    body = await run_in_threadpool(lambda: _describe_template(template, longpoll).model_dump_json())
    return Response(body, media_type=JSON)


@router.post(
    "/blocks",
    status_code=201,
    response_model=models.SubmittedBlock,
    dependencies=[Depends(hold_submission)],
    responses={
        200: {"model": models.SubmittedBlock, "description": "Valid; a dry run stores nothing"},
        202: {
            "model": models.Submission,
            "description": "Taken, not even decoded yet; the verdict follows at status_url",
        },
        **describe_problems(408, 409, 413, 422, 425, 429),
    },
    openapi_extra=describe_body({BINARY: {"type": "string", "format": "binary"}}),
)
async def post_block(
    runtime: Runtime,
    request: Request,
    wait: Annotated[bool, Query(description="0: answer at once, judge in the background")] = True,
    dry_run: Annotated[bool, Query(description="1: judge, store nothing")] = False,
) -> JSONResponse:
    """Judge a raw block (protocol §4) and make it part of the chain."""
    raw = await read_body(request, runtime.spec.limits.max_block_bytes)
    require_evaluation(runtime)
    source = Source("client", get_subnet(get_client_host(request)))
    if not wait and not dry_run:
        record = runtime.submissions.accept(raw, source)
        answer = _describe_submission(record)
        return _answer(answer, 202, {"Location": answer.status_url})
    verdict = await _judge(runtime, raw, source, dry_run=dry_run)
    return _answer(verdict, 200 if dry_run else 201)


@router.get("/blocks/{block_id}", responses=describe_problems(404))
async def get_submission(
    runtime: Runtime, block_id: Annotated[Hash, Path(description="id in hex")]
) -> models.Submission:
    """What became of a block that was handed in with wait=0; the oldest are forgotten."""
    record = runtime.submissions.get(block_id)
    if record is None:
        raise ApiError(ApiCode.NOT_FOUND, f"no submission of block {block_id.hex()} is remembered")
    return _describe_submission(record)


async def _judge(runtime: NodeRuntime, raw: bytes, source: Source, dry_run: bool) -> models.SubmittedBlock:
    commit = await runtime.submissions.judge(raw, source, dry_run=dry_run)
    if commit is None:
        header = decode_header(raw[:HEADER_BYTES])
        return models.SubmittedBlock(id=header.block_id, height=header.height, status="valid")
    record = commit.record
    return models.SubmittedBlock(id=record.block_id, height=record.height, status=commit.status)


def _describe_template(template: Template, previous_work_id: str | None) -> models.MiningTemplate:
    header, work = template.header, template.work
    is_stale = previous_work_id is not None and work.is_newer_tip(previous_work_id)
    return models.MiningTemplate(
        workid=work.work_id,
        header=models.TemplateHeader(
            version=header.version,
            height=header.height,
            parent=header.parent,
            parent_witness=header.parent_witness,
            timestamp=header.timestamp,
            transactions_root=header.transactions_root,
            miner=header.miner,
            difficulty=header.difficulty,
            task_id=header.task_id,
        ),
        rung=describe_rung(template.rung),
        transactions=[encode_signed(signed) for signed in work.transfers],
        previous_work="stale" if is_stale else "valid",
    )


def _describe_submission(record: SubmissionRecord) -> models.Submission:
    return models.Submission(
        id=record.block_id,
        height=record.height,
        status=record.status,
        code=record.code,
        detail=record.detail,
        status_url=f"{router.prefix}/blocks/{record.block_id.hex()}",
    )


def _answer(
    body: models.SubmittedBlock | models.Submission, status: int, headers: dict[str, str] | None = None
) -> JSONResponse:
    return JSONResponse(body.model_dump(mode="json"), status, headers)
