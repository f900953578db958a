"""Health and metrics, and a node that has to get its dataset first."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from consensus.address import encode_address
from consensus.dataset import encode_dataset_spec
from dataset_server.app import build_app as build_dataset_app
from dataset_server.errors import DatasetMissing
from dataset_server.store import DatasetStore
from node.dataset_keeper import DatasetKeeper
from node.verification import EvaluatorUnavailable, VerificationPool
from tests.builders import (
    MINER,
    build_dataset,
    build_header,
    finish_block,
    get_rung,
    mine_block,
    solve_witness,
)
from tests.node.rest.conftest import (
    StartNode,
    TestNode,
    assert_problem,
    put_dataset,
    refuse_connection,
    wait_until,
)


class NotReadyEvaluator:
    """An evaluator whose dataset has not come."""

    is_ready = False

    async def check(self, *_: object) -> None:
        raise AssertionError("nothing may be evaluated")


async def test_a_node_is_live_and_ready(node: TestNode) -> None:
    assert await node.get("/health/live") == {"status": "live"}
    assert await node.get("/health/ready") == {"status": "ready"}


async def test_a_node_that_may_be_behind_is_syncing(start_node: StartNode) -> None:
    # A configured peer that has not answered yet may be ahead.
    async def never_answer(request: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    transport = httpx.MockTransport(never_answer)
    async with start_node(peers=("http://127.0.0.1:9",), transport=lambda: transport) as node:
        response = await node.client.get("/health/ready")
        assert (response.status_code, response.json()) == (206, {"status": "syncing"})
        assert (await node.get("/v1/chain"))["synced"] is False


async def test_metrics_tell_the_chain(node: TestNode) -> None:
    await node.mine(2)
    text = (await node.client.get("/metrics")).text
    for line in (
        "freezenet_height 2.0",
        "freezenet_blocks_evaluated_total 2.0",
        "freezenet_peers 0.0",
        "freezenet_mempool_transactions 0.0",
        "freezenet_synced 1.0",
        "freezenet_evaluating 1.0",
        "freezenet_at_last_rung 0.0",
        f"freezenet_chain_work {float(node.tip.chain_work)}",
    ):
        assert line in text.splitlines()


@pytest.mark.parametrize("path", ["/health/ready", f"/v1/mining/template?address={encode_address(MINER)}"])
async def test_rejects_what_needs_the_dataset_without_it(start_node: StartNode, path: str) -> None:
    async with start_node(evaluator=NotReadyEvaluator()) as node:
        response = await node.client.get(path)
        assert_problem(response, 503, "dataset-missing")
        assert response.headers["retry-after"] == "5"
        assert_problem(await node.submit(mine_block(node.spec, node.tip)), 503, "dataset-missing")
        state = await node.get("/v1/chain")
        assert state["datasets"][0]["ready"] is False
        dataset_id = node.spec.task.dataset_id.hex()
        assert_problem(await node.client.get(f"/v1/datasets/{dataset_id}"), 503, "dataset-missing")
        assert_problem(await node.client.get(f"/v1/datasets/{'00' * 32}"), 404, "not-found")


def build_dataset_source(directory: Path) -> httpx.ASGITransport:
    """A dataset server with the tiny chain's dataset."""
    store = DatasetStore(directory)
    put_dataset(store)
    return httpx.ASGITransport(app=build_dataset_app(store))


async def test_a_node_fetches_its_dataset_evaluates_and_serves_it(
    start_node: StartNode, tmp_path: Path
) -> None:
    source = build_dataset_source(tmp_path / "source")
    settings = {"dataset_sources": ("http://127.0.0.1:8700",)}
    async with start_node(with_workers=True, transport=lambda: source, **settings) as node:
        header = build_header(node.spec, node.tip)
        rung = get_rung(node.spec, node.tip, header)
        block = finish_block(node.spec, node.tip, header, (), solve_witness(node.spec, header, rung))
        await wait_until(lambda: node.runtime.can_evaluate)
        assert (await node.client.get("/health/ready")).status_code == 200
        false = mine_block(node.spec, node.tip, nonce=1)
        assert_problem(await node.submit(false), 422, "wrong-train-count")
        assert (await node.submit(block)).status_code == 201
        answer = await node.get(f"/v1/datasets/{node.spec.task.dataset_id.hex()}")
        assert answer["dataset_hex"] == encode_dataset_spec(node.spec.dataset).hex()
        chunk = await node.client.get(f"/v1/datasets/{node.spec.task.dataset_id.hex()}/train/0")
        assert len(chunk.content) == node.spec.dataset.get_split_bytes("train")


async def test_a_source_that_fails_is_asked_again(tmp_path: Path) -> None:
    source = build_dataset_source(tmp_path / "source")
    transports = [source, httpx.MockTransport(refuse_connection)]
    keeper = DatasetKeeper(
        DatasetStore(tmp_path / "kept"),
        build_dataset().spec.dataset_id,
        lambda: ["http://data"],
        None,
        transports.pop,
        retry_seconds=0.001,
    )
    await asyncio.wait_for(keeper.run(), 20)
    assert keeper.is_complete
    assert transports == []


async def test_a_damaged_dataset_is_mended(tmp_path: Path) -> None:
    kept, dataset_id = DatasetStore(tmp_path / "kept"), build_dataset().spec.dataset_id
    put_dataset(kept)
    chunk = next((tmp_path / "kept").rglob("chunks/*"))
    chunk.write_bytes(b"damaged")
    source = build_dataset_source(tmp_path / "source")
    keeper = DatasetKeeper(kept, dataset_id, lambda: ["http://data"], None, lambda: source)

    await asyncio.wait_for(keeper.run(), 20)

    assert kept.load(dataset_id).spec == build_dataset().spec


async def test_a_whole_dataset_needs_no_source(tmp_path: Path) -> None:
    kept = DatasetStore(tmp_path / "kept")
    put_dataset(kept)
    keeper = DatasetKeeper(
        kept, build_dataset().spec.dataset_id, list, None, lambda: httpx.MockTransport(refuse_connection)
    )

    await asyncio.wait_for(keeper.run(), 20)

    assert keeper.is_complete


async def test_a_dataset_damaged_while_its_workers_did_not_start_is_mended(tmp_path: Path) -> None:
    kept, dataset_id = DatasetStore(tmp_path / "kept"), build_dataset().spec.dataset_id
    source = build_dataset_source(tmp_path / "source")

    class Pool(VerificationPool):
        starts = 0

        async def start(self) -> None:
            self.starts += 1
            if self.starts == 1:
                for chunk in (tmp_path / "kept").rglob("chunks/*"):
                    chunk.unlink()
            try:
                kept.load(dataset_id)
            except DatasetMissing as error:
                raise EvaluatorUnavailable(str(error)) from error

    pool = Pool(tmp_path / "kept", dataset_id)
    keeper = DatasetKeeper(kept, dataset_id, lambda: ["http://data"], pool, lambda: source, 0.001)

    await asyncio.wait_for(keeper.run(), 20)

    assert pool.starts == 2


async def test_a_dataset_is_fetched_from_public_addresses_or_from_whom_the_operator_named(
    start_node: StartNode, tmp_path: Path
) -> None:
    source, asked = build_dataset_source(tmp_path / "source"), list[str]()

    class Recorder(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            asked.append(request.url.host)
            return await source.handle_async_request(request)

    async with start_node(dataset_sources=("http://127.0.0.1:8700",), transport=Recorder) as node:
        transport = node.runtime.make_dataset_transport()
        async with httpx.AsyncClient(transport=transport) as client:
            await client.get("http://127.0.0.1:8700/health/live")
            with pytest.raises(httpx.ConnectError):
                await client.get("http://127.0.0.1:8701/health/live")

    assert asked == ["127.0.0.1"]
