"""The chain as a whole: its state, its parameters, its branches."""

from __future__ import annotations

from importlib.metadata import version

from fastapi import APIRouter
from fastapi.responses import Response

from node import models
from node.mining import build_template
from node.problems import describe_problems
from node.routes.access import Network, Runtime
from node.routes.answers import describe_params, describe_rung, summarise_block
from node.routes.caching import NOT_MODIFIED, IfNoneMatch, build_cached_response

router = APIRouter(prefix="/v1/chain", tags=["chain"])
SOFTWARE_VERSION = version("freezenet")


@router.get("", responses=describe_problems())
def get_chain(runtime: Runtime, network: Network) -> models.ChainState:
    """Name, height, tip and what the next block must meet."""
    spec = runtime.spec
    work = runtime.work_source.get_work()
    template = build_template(spec, work, bytes(32), int(runtime.clock()))
    tip = work.parent
    last = spec.task.rungs[-1]
    return models.ChainState(
        name=spec.params.name,
        chain_id=spec.chain_id,
        height=tip.height,
        tip=tip.block_id,
        chain_work=tip.chain_work,
        timestamp=tip.header.timestamp,
        difficulty=template.header.difficulty,
        rung=describe_rung(template.rung),
        at_last_rung=spec.task.get_rung(template.header.difficulty) == last,
        target_interval=spec.params.target_interval,
        synced=network.is_synced,
        datasets=[models.DatasetState(dataset_id=spec.task.dataset_id, ready=runtime.can_evaluate)],
        peers=network.connected_count,
        mempool=runtime.mempool.size,
        version=SOFTWARE_VERSION,
    )


@router.get("/params", response_model=models.ChainParams, responses=NOT_MODIFIED | describe_problems())
def get_params(runtime: Runtime, if_none_match: IfNoneMatch = None) -> Response:
    """Every parameter; `params_hex` and `dataset_hex` are all that fixes the chain."""
    spec = runtime.spec
    return build_cached_response(
        spec.chain_id.hex(), if_none_match, False, lambda: describe_params(spec).model_dump_json().encode()
    )


@router.get("/tips", responses=describe_problems())
def get_tips(runtime: Runtime) -> models.Page[models.BlockSummary]:
    """The blocks without children: the active tip first, then side branches by chain work."""
    with runtime.store.read() as view:
        tips = view.get_tips()
    return models.Page(items=[summarise_block(record) for record in tips], next=None)
