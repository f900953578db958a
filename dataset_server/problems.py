"""The refusals of the dataset routes as application/problem+json (RFC 9457).

Built as responses rather than raised, so that the routes answer alike in the server and inside a node.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi.responses import JSONResponse

RETRY_AFTER_SECONDS = 5

_SCHEMA = {
    "type": "object",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string"},
        "detail": {"type": "string"},
    },
}


class ProblemResponse(JSONResponse):
    """A refusal: {type, title, status, code, detail}."""

    media_type = "application/problem+json"


def build_problem(
    status: HTTPStatus, code: str, detail: str, headers: Mapping[str, str] | None = None
) -> ProblemResponse:
    """The response of a refusal; 503 names a time to come back."""
    body = {
        "type": "about:blank",
        "title": status.phrase,
        "status": status.value,
        "code": code,
        "detail": detail,
    }
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
    return ProblemResponse(body, status, headers)


def describe_problem(description: str) -> dict[str, Any]:
    """The entry of a refusal in a route's `responses`."""
    return {"description": description, "content": {ProblemResponse.media_type: {"schema": _SCHEMA}}}
