"""Who this node talks to."""

from __future__ import annotations

from fastapi import APIRouter

from node import models
from node.problems import describe_problems
from node.routes.access import Runtime

router = APIRouter(prefix="/v1/peers", tags=["peers"])


@router.get("", responses=describe_problems())
async def list_peers(runtime: Runtime) -> models.Page[models.Peer]:
    """Every peer connected with or configured."""
    items = [models.Peer.model_validate(peer) for peer in runtime.network.list_peers()]
    return models.Page(items=items, next=None)
