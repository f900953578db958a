"""Errors of the HTTP interface as RFC 9457 problems, each with a stable `code`.

Owns the mapping from what the other rooms raise to a status. The codes of protocol rules are those of
consensus.errors; those that only this interface gives are listed here.
"""

from __future__ import annotations

import logging
import math
from enum import Enum
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from chain.errors import PoolCode, PoolRefusal, StoreError
from consensus.errors import Code, ConsensusError, Outcome
from node.allowance import AllowanceSpent
from node.submissions import TooManySubmissions
from node.verification import EvaluatorUnavailable

LOG = logging.getLogger("freezenet.node")
POOL_RETRY_SECONDS = 10
"""When a full mempool may have room again: about a block later."""
MEDIA_TYPE = "application/problem+json"


class ApiCode(Enum):
    """Every code that is no protocol rule's, with its status and a line saying exactly when it is given."""

    BAD_REQUEST = ("bad-request", 400, "a parameter or a body is not of the form that the route asks for")
    BAD_CURSOR = ("bad-cursor", 400, "a cursor is none that this list gave")
    UNAUTHORIZED = ("unauthorized", 401, "the admin token is missing or wrong")
    LOOPBACK_ONLY = ("loopback-only", 403, "admin routes answer to this machine alone")
    NOT_FOUND = ("not-found", 404, "there is no such route, block, transaction or submission")
    WITNESS_PRUNED = ("witness-pruned", 404, "the block is known, its witness is no longer kept")
    METHOD_NOT_ALLOWED = ("method-not-allowed", 405, "the route knows no such method")
    TOO_SLOW = ("too-slow", 408, "the body did not arrive in time")
    TOO_BUSY = ("too-busy", 429, "as many such requests are in flight as the node serves at once")
    INTERNAL = ("internal", 500, "the node failed; its log says why")
    CANNOT_EVALUATE = (
        "cannot-evaluate",
        503,
        "the node's verification workers are starting or cannot start",
    )
    DATASET_MISSING = ("dataset-missing", 503, "the node does not have its dataset yet and evaluates nothing")
    STORAGE_FAILED = ("storage-failed", 503, "the node's database failed, and the node stops")
    SHUTTING_DOWN = ("shutting-down", 503, "the node is stopping")

    def __init__(self, text: str, status: int, when: str) -> None:
        self.text = text
        self.status = status
        self.when = when

    def __str__(self) -> str:
        return self.text


class ApiError(Exception):
    """A request was refused for a reason of this interface."""

    def __init__(self, code: ApiCode, detail: str = "", headers: dict[str, str] | None = None) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail
        self.headers = headers or {}


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str = Field(default="about:blank", description="always about:blank: `code` tells problems apart")
    title: str = Field(description="the status in words")
    status: int = Field(description="the HTTP status")
    code: str = Field(description="stable kebab-case code")
    detail: str = Field(description="the values that it is about")


_BY_OUTCOME = {Outcome.INVALID: 422, Outcome.BAD_DELIVERY: 422, Outcome.NOT_YET: 425, Outcome.DUPLICATE: 409}
_BY_CODE = {Code.UNDECODABLE: 400, Code.TOO_LARGE: 413, Code.BAD_ADDRESS: 400}
_BY_POOL_CODE = {
    PoolCode.MEMPOOL_FULL: 429,
    PoolCode.SENDER_QUEUE_FULL: 429,
    PoolCode.NONCE_GAP_TOO_LARGE: 425,
    PoolCode.NONCE_TAKEN: 409,
}
_BY_STATUS = {404: ApiCode.NOT_FOUND, 405: ApiCode.METHOD_NOT_ALLOWED}


def get_status(code: Code) -> int:
    """The HTTP status of a protocol code."""
    return _BY_CODE.get(code, _BY_OUTCOME[code.outcome])


def build_problem(status: int, code: str, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """The response for a refused request."""
    body = Problem(title=HTTPStatus(status).phrase, status=status, code=code, detail=detail)
    return JSONResponse(body.model_dump(), status, headers, MEDIA_TYPE)


def get_pool_status(code: PoolCode) -> int:
    """The HTTP status of a refusal of the mempool."""
    return _BY_POOL_CODE[code]


def describe_problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may answer with problems of these statuses; 400 and 503 always may."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": content}
        for status in sorted({400, 503, *statuses})
    }


def install_handlers(app: FastAPI) -> None:
    """Makes every error of the application a problem."""
    app.add_exception_handler(ApiError, _answer_api_error)
    app.add_exception_handler(ConsensusError, _answer_consensus_error)
    app.add_exception_handler(PoolRefusal, _answer_pool_refusal)
    app.add_exception_handler(TooManySubmissions, _answer_too_many)
    app.add_exception_handler(AllowanceSpent, _answer_spent)
    app.add_exception_handler(EvaluatorUnavailable, _answer_unavailable)
    app.add_exception_handler(StoreError, _answer_store_error)
    app.add_exception_handler(ClientDisconnect, _answer_nobody)
    app.add_exception_handler(RequestValidationError, _answer_validation_error)
    app.add_exception_handler(HTTPException, answer_http_exception)
    app.add_exception_handler(Exception, _answer_failure)


def _answer_api_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)
    return build_problem(error.code.status, str(error.code), error.detail or error.code.when, error.headers)


def _answer_consensus_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ConsensusError)
    return build_problem(get_status(error.code), str(error.code), error.detail or error.code.when)


def _answer_pool_refusal(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, PoolRefusal)
    status = get_pool_status(error.code)
    headers = {"Retry-After": str(POOL_RETRY_SECONDS)} if status == 429 else None
    return build_problem(status, str(error.code), error.detail or error.code.when, headers)


def _answer_too_many(request: Request, _error: Exception) -> JSONResponse:
    headers = {"Retry-After": "1"}
    return _answer_api_error(
        request, ApiError(ApiCode.TOO_BUSY, "too many blocks wait for a verdict", headers)
    )


def _answer_spent(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, AllowanceSpent)
    headers = {"Retry-After": str(math.ceil(error.wait_seconds))}
    return _answer_api_error(request, ApiError(ApiCode.TOO_BUSY, str(error), headers))


def _answer_unavailable(request: Request, error: Exception) -> JSONResponse:
    return _answer_api_error(request, ApiError(ApiCode.CANNOT_EVALUATE, str(error)))


def _answer_store_error(request: Request, error: Exception) -> JSONResponse:
    # The operator reads the path and the reason in the log; a client has no use for them.
    request.app.state.runtime.fail(error)
    return _answer_api_error(request, ApiError(ApiCode.STORAGE_FAILED))


def _answer_nobody(_request: Request, _error: Exception) -> Response:
    # The client left: no failure of this node, and nothing for its log.
    return Response(status_code=408)


def _answer_validation_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    places = [f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors()]
    return build_problem(400, str(ApiCode.BAD_REQUEST), "; ".join(places))


def answer_http_exception(_request: Request, error: Exception) -> JSONResponse:
    """What the framework refuses: unknown paths and methods."""
    assert isinstance(error, HTTPException)
    code = _BY_STATUS.get(error.status_code, ApiCode.BAD_REQUEST)
    return build_problem(error.status_code, str(code), str(error.detail), dict(error.headers or {}))


def _answer_failure(request: Request, error: Exception) -> JSONResponse:
    LOG.error("request failed: %s %s", request.method, request.url.path, exc_info=error)
    return build_problem(500, str(ApiCode.INTERNAL), ApiCode.INTERNAL.when)
