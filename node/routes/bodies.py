"""Reading request bodies that are not trusted to end."""

from __future__ import annotations

import asyncio

from fastapi import Request

from consensus.errors import BadDelivery, Code
from node.problems import ApiCode, ApiError

BODY_SECONDS = 30.0
"""A sender that takes longer holds a place that others wait for."""
BINARY = "application/octet-stream"
JSON = "application/json"


async def read_body(request: Request, max_bytes: int, timeout_seconds: float = BODY_SECONDS) -> bytes:
    """The whole body.

    Raises BadDelivery(TOO_LARGE) as soon as it is, or says it is, longer than allowed, ApiError(TOO_SLOW).
    """
    try:
        async with asyncio.timeout(timeout_seconds):
            return await _read(request, max_bytes)
    except TimeoutError:
        raise ApiError(ApiCode.TOO_SLOW) from None


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
