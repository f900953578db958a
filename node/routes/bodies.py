"""Clients that are not trusted: to end what they send, or to stay for the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from consensus.errors import BadDelivery, Code
from node.p2p.limits import BODY_SECONDS
from node.problems import ApiCode, ApiError

MAX_JSON_BYTES = 4_096
"""The longest JSON body that any route takes."""
BINARY = "application/octet-stream"
JSON = "application/json"

Result = TypeVar("Result")
Fields = TypeVar("Fields", bound=BaseModel)


async def read_body(request: Request, max_bytes: int, timeout_seconds: float = BODY_SECONDS) -> bytes:
    """The whole body.

    Raises BadDelivery(TOO_LARGE) as soon as it is, or says it is, longer than allowed, ApiError(TOO_SLOW).
    """
    try:
        async with asyncio.timeout(timeout_seconds):
            return await _read(request, max_bytes)
    except TimeoutError:
        raise ApiError(ApiCode.TOO_SLOW) from None


async def read_json(request: Request, model: type[Fields]) -> Fields:
    """The model in a JSON body. FastAPI would read a body of any length, and before it asks who sends it.

    Raises as `read_body` and `parse_json` do.
    """
    return parse_json(await read_body(request, MAX_JSON_BYTES), model)


def parse_json(body: bytes, model: type[Fields]) -> Fields:
    """The model in JSON bytes. Raises ApiError(BAD_REQUEST)."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        places = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        raise ApiError(ApiCode.BAD_REQUEST, "; ".join(places)) from error


def describe_body(content: dict[str, Any]) -> dict[str, Any]:
    """The `openapi_extra` of a route that reads its body itself; `content` is a schema by media type."""
    return {
        "requestBody": {
            "required": True,
            "content": {media_type: {"schema": schema} for media_type, schema in content.items()},
        }
    }


def refer_to(model: type[BaseModel]) -> dict[str, Any]:
    """The schema of a model that node.app documents by name."""
    return {"$ref": f"#/components/schemas/{model.__name__}"}


async def _read(request: Request, max_bytes: int) -> bytes:
    announced = request.headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and int(announced[:20]) > max_bytes:
        raise BadDelivery(Code.TOO_LARGE, f"{announced[:20]} bytes, at most {max_bytes}")
    parts, length = [], 0
    async for part in request.stream():
        length += len(part)
        if length > max_bytes:
            raise BadDelivery(Code.TOO_LARGE, f"more than {max_bytes} bytes")
        parts.append(part)
    return b"".join(parts)


async def run_while_connected(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """What `work` returns; cancelled where the client leaves, whose place others wait for.

    For requests without a body. Raises ClientDisconnect.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_wait_for_end(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientDisconnect
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _wait_for_end(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
