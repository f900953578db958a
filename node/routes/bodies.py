"""Reading request bodies that are not trusted to end."""

from __future__ import annotations

from fastapi import Request

from consensus.errors import BadDelivery, Code

BINARY = "application/octet-stream"
JSON = "application/json"


async def read_body(request: Request, max_bytes: int) -> bytes:
    """The whole body. Raises BadDelivery(TOO_LARGE) as soon as it is, or says it is, longer than allowed."""
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
