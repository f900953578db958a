"""Bodies that are not trusted to end."""

from __future__ import annotations

import asyncio

import pytest
from fastapi import Request
from starlette.types import Message

from node.problems import ApiCode, ApiError
from node.routes.bodies import read_body


async def test_rejects_a_body_that_does_not_come() -> None:
    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    request = Request({"type": "http", "headers": []}, receive)
    with pytest.raises(ApiError) as caught:
        await read_body(request, 10, timeout_seconds=0.01)
    assert caught.value.code is ApiCode.TOO_SLOW


async def test_a_body_comes_in_parts() -> None:
    parts = [b"abc", b"", b"de"]

    async def receive() -> Message:
        body = parts.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(parts)}

    assert await read_body(Request({"type": "http", "headers": []}, receive), 5) == b"abcde"
