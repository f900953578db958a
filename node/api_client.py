"""A node's REST interface for the command line: one call at a time, every failure told apart."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import httpx

from consensus.dataset import decode_dataset_spec
from consensus.params import ChainSpec, decode_params
from node.settings import check_url

DEFAULT_URL = "http://127.0.0.1:8645"
_TIMEOUT = httpx.Timeout(30.0, connect=5.0)


class Unreachable(Exception):
    """No node answers at the URL."""


class ApiProblem(Exception):
    """The node answered with a problem."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail


class ApiClient:
    """One node over HTTP; blocks. Raises Unreachable and ApiProblem."""

    def __init__(self, url: str = DEFAULT_URL, transport: httpx.BaseTransport | None = None) -> None:
        self.url = url.rstrip("/")
        try:
            check_url(self.url)
        except ValueError as error:
            raise Unreachable(str(error)) from None
        self._http = httpx.Client(base_url=self.url, transport=transport, timeout=_TIMEOUT, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def get(self, path: str, **parameters: str | int) -> dict[str, Any]:
        """The JSON object at a path."""
        return _read_object(self.url, self._request("GET", path, parameters))

    def get_bytes(self, path: str) -> bytes:
        """The bytes at a path."""
        return self._request("GET", path, {}).content

    def post_bytes(self, path: str, body: bytes) -> dict[str, Any]:
        """The JSON object that answers to these bytes."""
        headers = {"content-type": "application/octet-stream"}
        return _read_object(self.url, self._request("POST", path, {}, content=body, headers=headers))

    def list(self, path: str, limit: int = 200) -> Iterator[dict[str, Any]]:
        """Every item of a list, page after page."""
        cursor: dict[str, str] = {}
        while True:
            page = self.get(path, limit=limit, **cursor)
            yield from page["items"]
            if page["next"] is None:
                return
            cursor = {"cursor": page["next"]}

    def fetch_spec(self) -> ChainSpec:
        """The chain that the node serves, checked. Raises ConsensusError where it breaks a rule."""
        answer = self.get("/v1/chain/params")
        params = decode_params(bytes.fromhex(answer["params_hex"]))
        return ChainSpec.build(params, decode_dataset_spec(bytes.fromhex(answer["dataset_hex"])))

    def _request(
        self, method: str, path: str, parameters: dict[str, str | int], **body: Any
    ) -> httpx.Response:
        try:
            response = self._http.request(method, path, params=parameters, **body)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unreachable(
                f"no node answers at {self.url}: {str(error) or type(error).__name__}"
            ) from error
        if not response.is_success:
            raise _read_problem(response)
        return response


def _read_object(url: str, response: httpx.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise Unreachable(f"what answers at {url} is no FreezeNet node")
    return body


def _read_problem(response: httpx.Response) -> ApiProblem:
    try:
        body = response.json()
    except ValueError:
        body = None
    fields = body if isinstance(body, dict) else {}
    return ApiProblem(
        response.status_code,
        str(fields.get("code", response.status_code)),
        str(fields.get("detail", response.reason_phrase)),
    )
