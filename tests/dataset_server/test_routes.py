"""The dataset routes and the server around them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from consensus.dataset import CHUNK_BYTES, encode_dataset_spec
from dataset_server.app import build_app
from dataset_server.manifest import ChunkKey, build_manifest
from dataset_server.routes import build_dataset_router
from dataset_server.store import DatasetStore
from tests.dataset_server.samples import build_dataset, fill_store, get_chunk_path

DATASET = build_dataset()
DATASET_ID = DATASET.spec.dataset_id
MANIFEST = build_manifest(DATASET)
MANIFEST_PATH = f"/v1/datasets/{DATASET_ID.hex()}"


@pytest.fixture
async def http(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server with the whole dataset."""
    transport = httpx.ASGITransport(build_app(fill_store(tmp_path)))
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        yield client


def _check_problem(answer: httpx.Response, status: int, code: str) -> None:
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json().keys() == {"type", "title", "status", "code", "detail"}
    assert (answer.json()["status"], answer.json()["code"]) == (status, code)


async def test_answers_the_manifest(http: httpx.AsyncClient) -> None:
    answer = await http.get(MANIFEST_PATH)
    assert answer.json() == {
        "dataset_hex": encode_dataset_spec(DATASET.spec).hex(),
        "train": {"bytes": 40_000 * 65, "chunks": [leaf_hash.hex() for leaf_hash in MANIFEST.train]},
        "eval": {"bytes": 1_000 * 65, "chunks": [leaf_hash.hex() for leaf_hash in MANIFEST.eval]},
    }
    assert answer.headers["ETag"] == f'"{DATASET_ID.hex()}"'
    assert "immutable" in answer.headers["Cache-Control"]


async def test_answers_a_chunk(http: httpx.AsyncClient) -> None:
    answer = await http.get(f"{MANIFEST_PATH}/train/1")
    assert answer.content == DATASET.train[CHUNK_BYTES : 2 * CHUNK_BYTES]
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["ETag"] == f'"{MANIFEST.train[1].hex()}"'
    assert "immutable" in answer.headers["Cache-Control"]


@pytest.mark.parametrize("path", [MANIFEST_PATH, f"{MANIFEST_PATH}/eval/0"])
async def test_answers_head(http: httpx.AsyncClient, path: str) -> None:
    full, head = await http.get(path), await http.head(path)
    assert head.status_code == 200
    assert head.headers == full.headers


@pytest.mark.parametrize("path", [MANIFEST_PATH, f"{MANIFEST_PATH}/eval/0"])
@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', "*"])
async def test_answers_not_modified(http: httpx.AsyncClient, path: str, form: str) -> None:
    etag = (await http.get(path)).headers["ETag"]
    answer = await http.get(path, headers={"If-None-Match": form.format(etag)})
    assert (answer.status_code, answer.content) == (304, b"")
    assert answer.headers["ETag"] == etag
    assert "immutable" in answer.headers["Cache-Control"]


async def test_answers_in_full_to_another_etag(http: httpx.AsyncClient) -> None:
    answer = await http.get(MANIFEST_PATH, headers={"If-None-Match": '"other"'})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        f"/v1/datasets/{'0' * 64}",
        f"/v1/datasets/{'0' * 64}/train/0",
        f"/v1/datasets/{DATASET_ID.hex().upper()}",
        f"/v1/datasets/{DATASET_ID.hex()}%0A",
        "/v1/datasets/x",
        f"{MANIFEST_PATH}/train/3",
        f"{MANIFEST_PATH}/eval/1",
        f"{MANIFEST_PATH}/train/00",
        f"{MANIFEST_PATH}/train/-1",
        f"{MANIFEST_PATH}/train/{'9' * 5_000}",
        f"{MANIFEST_PATH}/train/%D9%A1",
        f"{MANIFEST_PATH}/test/0",
    ],
)
async def test_rejects_a_path_to_nothing(http: httpx.AsyncClient, path: str) -> None:
    _check_problem(await http.get(path), 404, "not-found")


async def test_rejects_another_route(http: httpx.AsyncClient) -> None:
    _check_problem(await http.get("/v1/blocks"), 404, "not-found")
    answer = await http.post(MANIFEST_PATH)
    _check_problem(answer, 405, "method-not-allowed")
    assert "GET" in answer.headers["Allow"]


async def test_says_that_a_chunk_is_missing(http: httpx.AsyncClient, tmp_path: Path) -> None:
    get_chunk_path(tmp_path, DATASET_ID, ChunkKey("train", 2)).write_bytes(b"damaged")
    answer = await http.get(f"{MANIFEST_PATH}/train/2")
    _check_problem(answer, 503, "dataset-missing")
    assert int(answer.headers["Retry-After"]) > 0
    assert (await http.get(f"{MANIFEST_PATH}/train/1")).status_code == 200


async def test_says_that_an_expected_dataset_is_missing(tmp_path: Path) -> None:
    app = FastAPI()
    app.include_router(build_dataset_router(lambda: DatasetStore(tmp_path), lambda: {DATASET_ID}))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://node") as http:
        _check_problem(await http.get(MANIFEST_PATH), 503, "dataset-missing")
        _check_problem(await http.get(f"{MANIFEST_PATH}/train/0"), 503, "dataset-missing")
        _check_problem(await http.get(f"/v1/datasets/{'0' * 64}"), 404, "not-found")


async def test_is_ready_once_a_dataset_is_whole(tmp_path: Path) -> None:
    transport = httpx.ASGITransport(build_app(DatasetStore(tmp_path)))
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as http:
        assert (await http.get("/health/live")).status_code == 200
        _check_problem(await http.get("/health/ready"), 503, "dataset-missing")
        fill_store(tmp_path)
        assert (await http.get("/health/ready")).status_code == 200


async def test_interface_description_names_every_answer(http: httpx.AsyncClient) -> None:
    paths = (await http.get("/openapi.json")).json()["paths"]
    chunk = paths["/v1/datasets/{dataset_id}/{split}/{index}"]
    assert chunk.keys() == {"get"}
    assert {"200", "304", "404", "503"} <= chunk["get"]["responses"].keys()
    assert chunk["get"]["responses"]["200"]["content"].keys() == {"application/octet-stream"}
    assert chunk["get"]["responses"]["404"]["content"].keys() == {"application/problem+json"}
    manifest = paths["/v1/datasets/{dataset_id}"]["get"]["responses"]["200"]["content"]
    assert manifest["application/json"]["schema"]["$ref"].endswith("ManifestAnswer")
