"""Orders to the node, and who may give them."""

from __future__ import annotations

import logging
from typing import Any

import httpx
import pytest

from node.app import build_openapi
from tests.node.rest.conftest import StartNode, TestNode, assert_problem

PEER = "http://127.0.0.1:9"
ORDERS: dict[str, Any] = {
    "peers": {"url": PEER},
    "peers/ban": {"peer": PEER},
    "partition": {"blocked": [PEER]},
    "log-level": {"level": "info"},
    "shutdown": None,
}


async def order(node: TestNode, name: str, body: Any, token: str | None = None) -> httpx.Response:
    headers = {b"authorization": f"Bearer {token or node.runtime.admin_token}".encode()}
    return await node.client.post(f"/v1/admin/{name}", json=body, headers=headers)


@pytest.mark.parametrize("name", ORDERS)
async def test_rejects_an_order_without_the_token(node: TestNode, name: str) -> None:
    response = await node.client.post(f"/v1/admin/{name}", json=ORDERS[name])
    assert_problem(response, 401, "unauthorized")
    assert response.headers["www-authenticate"] == "Bearer"
    assert_problem(await order(node, name, ORDERS[name], token="é" * 64), 401, "unauthorized")
    assert_problem(await order(node, name, ORDERS[name], token="0" * 64), 401, "unauthorized")


@pytest.mark.parametrize("name", ORDERS)
async def test_asks_for_the_token_before_it_looks_at_a_body(node: TestNode, name: str) -> None:
    headers = {"content-type": "application/json"}
    response = await node.client.post(f"/v1/admin/{name}", content=b"{", headers=headers)
    assert_problem(response, 401, "unauthorized")


@pytest.mark.parametrize("client", [("192.0.2.1", 1), ("nonsense", 1)])
async def test_rejects_an_order_from_another_machine(node: TestNode, client: tuple[str, int]) -> None:
    transport = httpx.ASGITransport(app=node.app, client=client)
    headers = {"authorization": f"Bearer {node.runtime.admin_token}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://node") as stranger:
        response = await stranger.post("/v1/admin/peers", json={"url": PEER}, headers=headers)
    assert_problem(response, 403, "loopback-only")


async def test_another_machine_may_order_where_the_operator_says_so(start_node: StartNode) -> None:
    async with start_node(admin_remote=True) as node:
        transport = httpx.ASGITransport(app=node.app, client=("192.0.2.1", 1))
        headers = {"authorization": f"Bearer {node.runtime.admin_token}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://node") as stranger:
            response = await stranger.post("/v1/admin/log-level", json=ORDERS["log-level"], headers=headers)
    assert response.status_code == 200


async def test_peers_are_added_and_banned(node: TestNode) -> None:
    assert (await order(node, "peers", {"url": PEER})).json() == {"status": "done"}
    peers = (await node.get("/v1/peers"))["items"]
    assert [(peer["url"], peer["configured"]) for peer in peers] == [(PEER, True)]
    assert (await order(node, "peers/ban", {"peer": PEER})).status_code == 200
    assert (await node.get("/v1/peers"))["items"][0]["state"] == "barred"


async def test_a_partition_is_set_and_healed(node: TestNode) -> None:
    await order(node, "peers", {"url": PEER})
    await order(node, "partition", {"blocked": [PEER]})
    assert (await node.get("/v1/peers"))["items"][0]["state"] == "partitioned"
    await order(node, "partition", {"blocked": []})
    assert (await node.get("/v1/peers"))["items"][0]["state"] == "idle"


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("peers", {"url": "ftp://host"}),
        ("peers", {"url": "http://host/path"}),
        ("peers", {}),
        ("peers", {"url": PEER, "surplus": 1}),
        ("peers/ban", {"peer": "neither"}),
        ("partition", {"blocked": "all"}),
        ("log-level", {"level": "loud"}),
    ],
)
async def test_rejects_an_order_of_another_form(node: TestNode, name: str, body: Any) -> None:
    assert_problem(await order(node, name, body), 400, "bad-request")


@pytest.mark.parametrize("name", [name for name, body in ORDERS.items() if body is not None])
async def test_rejects_an_order_that_is_too_long_or_no_json(node: TestNode, name: str) -> None:
    headers = {"authorization": f"Bearer {node.runtime.admin_token}", "content-type": "application/json"}
    for content, status, code in ((b" " * 4_097, 413, "too-large"), (b"{", 400, "bad-request")):
        response = await node.client.post(f"/v1/admin/{name}", content=content, headers=headers)
        assert_problem(response, status, code)


async def test_the_log_level_changes(node: TestNode) -> None:
    before = logging.getLogger().level
    try:
        await order(node, "log-level", {"level": "error"})
        assert logging.getLogger().level == logging.ERROR
    finally:
        logging.getLogger().setLevel(before)


async def test_a_shutdown_is_requested(node: TestNode) -> None:
    requests: list[str] = []
    node.runtime.request_stop = lambda: requests.append("stop")
    assert (await order(node, "shutdown", None)).status_code == 202
    assert requests == ["stop"]


async def test_the_token_is_in_the_data_directory_for_its_owner_alone(node: TestNode) -> None:
    path = node.runtime.settings.token_path
    assert path.read_text().strip() == node.runtime.admin_token
    assert path.stat().st_mode & 0o777 == 0o600


def test_every_order_is_covered_and_its_body_documented() -> None:
    prefix = "/v1/admin/"
    paths = build_openapi()["paths"]
    routes = {path.removeprefix(prefix): paths[path]["post"] for path in paths if path.startswith(prefix)}
    assert set(routes) == set(ORDERS)
    with_body = {name for name, operation in routes.items() if "requestBody" in operation}
    assert with_body == {name for name, body in ORDERS.items() if body is not None}
