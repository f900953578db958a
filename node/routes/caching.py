"""Answers that a client may keep: entity tags, 304, and which answers never change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Header
from fastapi.responses import Response

IMMUTABLE = "public, max-age=31536000, immutable"
REVALIDATE = "no-cache"

NOT_MODIFIED: dict[int | str, dict[str, Any]] = {
    304: {"description": "The client holds the answer already, as If-None-Match says"}
}

IfNoneMatch = Annotated[str | None, Header()]


def build_cached_response(
    tag: str,
    if_none_match: str | None,
    is_immutable: bool,
    build_body: Callable[[], bytes],
    media_type: str = "application/json",
) -> Response:
    """The answer with its tag, or 304 where the client holds it already; then the body is never built."""
    headers = {"ETag": f'"{tag}"', "Cache-Control": IMMUTABLE if is_immutable else REVALIDATE}
    if _is_held(tag, if_none_match):
        return Response(status_code=304, headers=headers)
    return Response(build_body(), media_type=media_type, headers=headers)


def _is_held(tag: str, if_none_match: str | None) -> bool:
    # Weak comparison (RFC 9110 §13.1.2): a cache in between may have marked the tag weak.
    held = [text.strip().removeprefix("W/") for text in (if_none_match or "").split(",")]
    return f'"{tag}"' in held or "*" in held
