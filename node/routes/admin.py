"""Orders to the node: a bearer token from its data directory is needed, and by default the same machine.

Every route is a coroutine: the peer network belongs on the event loop.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel

from node import models
from node.logging import set_log_level
from node.problems import ApiCode, ApiError, describe_problems
from node.routes.access import Runtime
from node.routes.bodies import JSON, describe_body, read_json, refer_to


async def require_admin(runtime: Runtime, request: Request) -> None:
    """Raises ApiError(LOOPBACK_ONLY) or (UNAUTHORIZED)."""
    if not runtime.settings.admin_remote and not _is_loopback(request):
        raise ApiError(ApiCode.LOOPBACK_ONLY)
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    expected = runtime.admin_token.encode()
    if scheme.lower() != "bearer" or not secrets.compare_digest(token.encode(), expected):
        raise ApiError(ApiCode.UNAUTHORIZED, headers={"WWW-Authenticate": "Bearer"})


router = APIRouter(
    prefix="/v1/admin",
    tags=["admin"],
    dependencies=[Depends(require_admin)],
    responses=describe_problems(401, 403),
)


def _take(model: type[BaseModel]) -> dict[str, Any]:
    """What the interface description says of an order whose body the route reads itself."""
    return {
        "responses": describe_problems(408, 413),
        "openapi_extra": describe_body({JSON: refer_to(model)}),
    }


@router.post("/peers", **_take(models.PeerAddress))
async def add_peer(runtime: Runtime, request: Request) -> models.Done:
    """Stay connected with a peer from now on."""
    body = await read_json(request, models.PeerAddress)
    return _order(lambda: runtime.network.add_peer(body.url))


@router.post("/peers/ban", **_take(models.PeerToBan))
async def ban_peer(runtime: Runtime, request: Request) -> models.Done:
    """Refuse a peer, named by its URL or its node id."""
    body = await read_json(request, models.PeerToBan)
    return _order(lambda: runtime.network.ban(body.peer))


@router.post("/partition", **_take(models.Partition))
async def set_partition(runtime: Runtime, request: Request) -> models.Done:
    """Refuse all traffic with these peers, both ways; an empty list heals."""
    body = await read_json(request, models.Partition)
    return _order(lambda: runtime.network.set_blocked(set(body.blocked)))


@router.post("/log-level", **_take(models.LogLevel))
async def change_log_level(request: Request) -> models.Done:
    """Log more or less from now on."""
    set_log_level((await read_json(request, models.LogLevel)).level)
    return models.Done()


@router.post("/shutdown", status_code=202)
async def shut_down(runtime: Runtime) -> models.Done:
    """Stop as Ctrl-C does."""
    runtime.request_stop()
    return models.Done()


def _order(carry_out: Callable[[], None]) -> models.Done:
    try:
        carry_out()
    except ValueError as error:
        raise ApiError(ApiCode.BAD_REQUEST, str(error)) from error
    return models.Done()


def _is_loopback(request: Request) -> bool:
    try:
        return request.client is not None and ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False
