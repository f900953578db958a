"""How each refusal becomes a problem: its status, its code, its headers."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from chain.errors import PoolCode, PoolRefusal, StoreError
from consensus.errors import Code, Outcome, build_error
from node.p2p.errors import PeerCode
from node.problems import ApiCode, ApiError, get_pool_status, install_handlers
from node.submissions import TooManySubmissions
from node.verification import EvaluatorUnavailable
from tests.node.rest.conftest import assert_problem

ARCHITECTURE = Path(__file__).parents[3] / "docs" / "architecture.md"


def test_the_documented_codes_are_all_that_a_node_gives() -> None:
    pattern = r"^\| `([a-z-]+)` \| (\d+) \| ([A-Za-z]+) \| (.+) \|$"
    rows = re.findall(pattern, ARCHITECTURE.read_text("utf-8"), re.MULTILINE)
    rest = [(str(code), str(code.status), "REST", code.when) for code in ApiCode]
    pool = [(str(code), str(get_pool_status(code)), "mempool", code.when) for code in PoolCode]
    peers = [(str(code), str(code.status), "peers", code.when) for code in PeerCode]
    assert rows == rest + pool + peers


class Failing:
    """An application whose one route raises what the test wants; also the runtime that hears of failures."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.failure: BaseException | None = None
        self.app = FastAPI()
        self.app.state.runtime = self
        self.app.add_api_route("/", self.answer, response_model=None)
        install_handlers(self.app)

    def answer(self) -> None:
        assert self.error is not None
        raise self.error

    def fail(self, error: BaseException) -> None:
        self.failure = error

    async def raise_error(self, error: Exception) -> httpx.Response:
        self.error = error
        transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://node") as client:
            return await client.get("/")


@pytest.fixture
def failing() -> Failing:
    return Failing()


STATUS = {Outcome.INVALID: 422, Outcome.BAD_DELIVERY: 422, Outcome.NOT_YET: 425, Outcome.DUPLICATE: 409}
SPECIAL = {Code.UNDECODABLE: 400, Code.TOO_LARGE: 413, Code.BAD_ADDRESS: 400}


@pytest.mark.parametrize("code", Code, ids=str)
async def test_every_protocol_code_has_a_status(failing: Failing, code: Code) -> None:
    response = await failing.raise_error(build_error(code))
    body = assert_problem(response, SPECIAL.get(code, STATUS[code.outcome]), str(code))
    assert body["detail"] == code.when
    assert body["type"] == "about:blank"


@pytest.mark.parametrize("code", PoolCode, ids=str)
async def test_every_refusal_of_the_mempool_has_a_status(failing: Failing, code: PoolCode) -> None:
    response = await failing.raise_error(PoolRefusal(code, "why"))
    status = {PoolCode.NONCE_TAKEN: 409, PoolCode.NONCE_GAP_TOO_LARGE: 425}.get(code, 429)
    assert assert_problem(response, status, str(code))["detail"] == "why"
    assert ("retry-after" in response.headers) is (status == 429)


@pytest.mark.parametrize("code", ApiCode, ids=str)
async def test_every_code_of_the_interface_has_a_status(failing: Failing, code: ApiCode) -> None:
    response = await failing.raise_error(ApiError(code, "why", {"Retry-After": "7"}))
    assert_problem(response, code.status, str(code))
    assert response.headers["retry-after"] == "7"


async def test_too_many_background_submissions_are_told_to_come_back(failing: Failing) -> None:
    response = await failing.raise_error(TooManySubmissions())
    assert_problem(response, 429, "too-busy")
    assert response.headers["retry-after"] == "1"


async def test_an_unavailable_evaluator_is_a_503(failing: Failing) -> None:
    assert_problem(await failing.raise_error(EvaluatorUnavailable("stopping")), 503, "cannot-evaluate")


async def test_a_broken_database_stops_the_node_and_tells_no_path(failing: Failing) -> None:
    error = StoreError("/secret/path is full")
    response = await failing.raise_error(error)
    assert_problem(response, 503, "storage-failed")
    assert "secret" not in response.text
    assert failing.failure is error


async def test_a_defect_is_a_500_that_tells_nothing(
    failing: Failing, caplog: pytest.LogCaptureFixture
) -> None:
    response = await failing.raise_error(ZeroDivisionError("secret"))
    assert_problem(response, 500, "internal")
    assert "secret" not in response.text
    assert "secret" in caplog.text


async def test_rejects_an_unknown_route_and_method(failing: Failing) -> None:
    transport = httpx.ASGITransport(app=failing.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://node") as client:
        assert_problem(await client.get("/nowhere"), 404, "not-found")
        response = await client.delete("/")
    assert_problem(response, 405, "method-not-allowed")
    assert response.headers["allow"] == "GET"
