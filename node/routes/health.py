"""Whether the process lives and serves, and its metrics; for supervisors and monitoring."""

from __future__ import annotations

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from node import models
from node.problems import describe_problems
from node.routes.access import Network, Runtime, require_evaluation

router = APIRouter(tags=["health"])


@router.get("/health/live")
async def get_liveness() -> models.Health:
    """Whether the process answers."""
    return models.Health(status="live")


@router.get(
    "/health/ready",
    responses={
        206: {"model": models.Health, "description": "Syncing: a peer is ahead"},
        **describe_problems(),
    },
)
async def get_readiness(runtime: Runtime, network: Network, response: Response) -> models.Health:
    """200 where blocks are judged and no peer is ahead, 206 while it catches up, 503 before it can judge."""
    require_evaluation(runtime)
    if network.is_synced:
        return models.Health(status="ready")
    response.status_code = 206
    return models.Health(status="syncing")


@router.get(
    "/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}}, tags=["metrics"]
)
def get_metrics(runtime: Runtime, network: Network) -> Response:
    """Prometheus exposition text."""
    return Response(runtime.render_metrics(network), media_type=CONTENT_TYPE_LATEST)
