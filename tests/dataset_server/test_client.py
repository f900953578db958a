"""The client against sources that are honest, partial, absent, slow or lying."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from consensus.dataset import CHUNK_BYTES
from consensus.encoding import compute_tagged_hash
from consensus.errors import Code, RuleViolation
from dataset_server import source
from dataset_server.client import FetchProgress, fetch_dataset
from dataset_server.errors import DatasetUnavailable
from dataset_server.manifest import (
    ChunkKey,
    EncodedDataset,
    build_manifest,
    describe_manifest,
    encode_manifest,
)
from dataset_server.store import DatasetStore
from tests.dataset_server.samples import (
    Answer,
    Sources,
    build_bad_labels,
    build_dataset,
    fill_store,
    get_chunk_path,
    serve,
)

DATASET = build_dataset()
DATASET_ID = DATASET.spec.dataset_id
MANIFEST = build_manifest(DATASET)


@pytest.fixture
def store(tmp_path: Path) -> DatasetStore:
    """An empty store."""
    return DatasetStore(tmp_path / "client")


@pytest.fixture
def honest(tmp_path: Path) -> httpx.ASGITransport:
    """A source with the whole dataset."""
    return serve(fill_store(tmp_path / "server"))


def _answer(request: httpx.Request, dataset: EncodedDataset = DATASET) -> httpx.Response:
    """What an honest source answers, to be spoilt."""
    parts = request.url.path.split("/")
    if len(parts) == 4:
        return httpx.Response(200, content=encode_manifest(build_manifest(dataset)))
    split = dataset.train if parts[4] == "train" else dataset.eval
    start = int(parts[5]) * CHUNK_BYTES
    return httpx.Response(200, content=split[start : start + CHUNK_BYTES])


def _spoil(manifest: Answer = _answer, chunk: Answer = _answer) -> Answer:
    return lambda request: (manifest if len(request.url.path.split("/")) == 4 else chunk)(request)


def _flip(request: httpx.Request) -> httpx.Response:
    data = bytearray(_answer(request).content)
    data[len(data) // 2] ^= 1
    return httpx.Response(200, content=bytes(data))


def _pour(request: httpx.Request) -> httpx.Response:
    """An answer without an end."""

    async def stream() -> AsyncIterator[bytes]:
        while True:
            yield bytes(CHUNK_BYTES)

    return httpx.Response(200, content=stream())


def _break_off(request: httpx.Request) -> httpx.Response:
    """Half of the answer, then a lost connection."""

    async def stream() -> AsyncIterator[bytes]:
        yield _answer(request).content[: CHUNK_BYTES // 2]
        raise httpx.RemoteProtocolError("the connection was closed")

    return httpx.Response(200, content=stream())


def _reset(request: httpx.Request) -> httpx.Response:
    raise ConnectionResetError("connection reset by peer")


def _refuse(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("connection refused")


async def test_fetches_from_an_honest_source(store: DatasetStore, honest: httpx.ASGITransport) -> None:
    sources, progress = Sources(a=honest), list[FetchProgress]()
    await fetch_dataset(DATASET_ID, sources.urls, store, sources, progress.append)
    assert store.load(DATASET_ID).spec == DATASET.spec
    assert len(sources.paths["a"]) == 5
    assert progress[0] == FetchProgress(0, MANIFEST.total_bytes)
    assert progress[-1] == FetchProgress(MANIFEST.total_bytes, MANIFEST.total_bytes)


async def test_asks_nobody_for_what_is_here(tmp_path: Path) -> None:
    await fetch_dataset(DATASET_ID, [], fill_store(tmp_path))


async def test_shares_the_work_between_sources(store: DatasetStore) -> None:
    both_asked = asyncio.Event()
    asked: set[str] = set()

    async def stream(request: httpx.Request) -> AsyncIterator[bytes]:
        asked.add(request.url.host)
        if asked == {"a", "b"}:
            both_asked.set()
        await both_asked.wait()
        yield _answer(request).content

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=stream(request))

    sources = Sources(a=_spoil(chunk=answer), b=_spoil(chunk=answer))
    await fetch_dataset(DATASET_ID, sources.urls, store, sources)
    assert store.has(DATASET_ID)


LIES: dict[str, Answer] = {
    "wrong-byte": _spoil(chunk=_flip),
    "short-chunk": _spoil(chunk=lambda request: httpx.Response(200, content=b"short")),
    "endless-chunk": _spoil(chunk=_pour),
    "another-chunk": _spoil(chunk=lambda request: httpx.Response(200, content=DATASET.eval)),
    "endless-manifest": _spoil(manifest=_pour),
    "no-manifest": _spoil(manifest=lambda request: httpx.Response(200, content=b"<html>")),
    "another-dataset": lambda request: _answer(request, build_bad_labels()),
    "wrong-hashes": _spoil(
        manifest=lambda request: httpx.Response(
            200, json=describe_manifest(MANIFEST) | {"eval": {"bytes": 65_000, "chunks": ["00" * 32]}}
        )
    ),
}
FAILURES: dict[str, Answer] = {
    "absent": _refuse,
    "not-found": lambda request: httpx.Response(404),
    "missing": lambda request: httpx.Response(503),
    "redirects": lambda request: httpx.Response(302, headers={"Location": "http://inside/"}),
    "redirects-to-no-name": lambda request: httpx.Response(302, headers={"Location": "http://xn--/"}),
    "drops-the-connection": _reset,
    "compressed": lambda request: httpx.Response(200, content=b"", headers={"Content-Encoding": "gzip"}),
    "breaks-off": _spoil(chunk=_break_off),
    "loses-chunks": _spoil(chunk=_refuse),
}


@pytest.mark.parametrize("bad", [*LIES.values(), *FAILURES.values()], ids=[*LIES, *FAILURES])
async def test_falls_back_to_the_next_source(
    store: DatasetStore, honest: httpx.ASGITransport, bad: Answer
) -> None:
    sources = Sources(bad=bad, good=honest)
    await fetch_dataset(DATASET_ID, sources.urls, store, sources)
    assert store.load(DATASET_ID).spec == DATASET.spec


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
async def test_rejects_a_lying_source(store: DatasetStore, lie: Answer) -> None:
    sources = Sources(liar=lie)
    with pytest.raises(DatasetUnavailable, match=r"no source has dataset .*: http://liar: (wrong|too|und)"):
        await fetch_dataset(DATASET_ID, sources.urls, store, sources)
    # A liar is asked nothing more: one lie, and the one request that was under way beside it.
    assert len(sources.paths["liar"]) <= 3
    assert not list((store.root / DATASET_ID.hex() / "chunks").glob("*"))


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
async def test_gives_a_failing_source_up(store: DatasetStore, failure: Answer) -> None:
    sources = Sources(bad=failure)
    with pytest.raises(DatasetUnavailable, match="http://bad: "):
        await fetch_dataset(DATASET_ID, sources.urls, store, sources)
    assert len(sources.paths["bad"]) <= 6


@pytest.mark.parametrize(
    "url", ["ftp://a", "file:///etc/passwd", "a", "", "http://", "http://a\nb", "http://a:b", "http://xn--"]
)
async def test_rejects_a_source_that_is_no_http_url(store: DatasetStore, url: str) -> None:
    with pytest.raises(DatasetUnavailable, match=r"not an http\(s\) URL"):
        await fetch_dataset(DATASET_ID, [url], store, Sources())


async def test_names_no_source_where_there_is_none(store: DatasetStore) -> None:
    with pytest.raises(DatasetUnavailable, match="none is known"):
        await fetch_dataset(DATASET_ID, [], store)


async def test_resumes_a_truncated_transfer(store: DatasetStore, honest: httpx.ASGITransport) -> None:
    def break_the_last(request: httpx.Request) -> httpx.Response:
        return (_break_off if request.url.path.endswith("train/2") else _answer)(request)

    first = Sources(a=_spoil(chunk=break_the_last))
    with pytest.raises(DatasetUnavailable, match="closed"):
        await fetch_dataset(DATASET_ID, first.urls, store, first)
    assert store.list_missing(DATASET_ID) == [ChunkKey("train", 2)]

    second, progress = Sources(b=honest), list[FetchProgress]()
    await fetch_dataset(DATASET_ID, second.urls, DatasetStore(store.root), second, progress.append)
    assert second.paths["b"] == [f"/v1/datasets/{DATASET_ID.hex()}/train/2"]
    assert progress[0].done_bytes == MANIFEST.total_bytes - MANIFEST.get_chunk_bytes(ChunkKey("train", 2))


async def test_tries_a_source_again(store: DatasetStore) -> None:
    broken: list[str] = []

    def break_once(request: httpx.Request) -> httpx.Response:
        if broken:
            return _answer(request)
        broken.append(request.url.path)
        return _break_off(request)

    sources = Sources(a=_spoil(chunk=break_once))
    await fetch_dataset(DATASET_ID, sources.urls, store, sources)
    assert sources.paths["a"].count(broken[0]) == 2


async def test_mends_a_damaged_chunk(tmp_path: Path, honest: httpx.ASGITransport) -> None:
    store = fill_store(tmp_path / "client")
    get_chunk_path(tmp_path / "client", DATASET_ID, ChunkKey("eval", 0)).write_bytes(b"damaged")
    sources = Sources(a=honest)
    await fetch_dataset(DATASET_ID, sources.urls, store, sources)
    assert sources.paths["a"] == [f"/v1/datasets/{DATASET_ID.hex()}/eval/0"]
    assert store.list_missing(DATASET_ID) == []


async def test_a_stalled_answer_ends_in_time(
    store: DatasetStore, honest: httpx.ASGITransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stream() -> AsyncIterator[bytes]:
        yield b"a"
        await asyncio.Event().wait()

    monkeypatch.setattr(source, "REQUEST_SECONDS", 0.1)
    stalled = Sources(bad=lambda request: httpx.Response(200, content=stream()))
    with pytest.raises(DatasetUnavailable, match="TimeoutError"):
        await fetch_dataset(DATASET_ID, stalled.urls, store, stalled)


async def test_asks_for_no_compression(store: DatasetStore) -> None:
    encodings: set[str] = set()

    def note(request: httpx.Request) -> httpx.Response:
        encodings.add(request.headers["Accept-Encoding"])
        return _answer(request)

    sources = Sources(a=note)
    await fetch_dataset(DATASET_ID, sources.urls, store, sources)
    assert encodings == {"identity"}


async def test_rejects_a_dataset_that_breaks_the_rules(store: DatasetStore) -> None:
    bad = build_bad_labels()
    sources = Sources(a=lambda request: _answer(request, bad))
    with pytest.raises(RuleViolation) as refusal:
        await fetch_dataset(bad.spec.dataset_id, sources.urls, store, sources)
    assert refusal.value.code is Code.BAD_DATASET


async def test_rejects_an_id_of_no_valid_description(store: DatasetStore) -> None:
    body = json.dumps({"dataset_hex": bytes(80).hex()}).encode()
    sources = Sources(a=lambda request: httpx.Response(200, content=body))
    with pytest.raises(RuleViolation) as refusal:
        await fetch_dataset(
            compute_tagged_hash("FreezeNet/1/dataset", bytes(80)), sources.urls, store, sources
        )
    assert refusal.value.code is Code.BAD_DATASET


async def test_a_failing_disk_ends_the_fetch(store: DatasetStore, honest: httpx.ASGITransport) -> None:
    store.put_manifest(DATASET_ID, MANIFEST)
    chunks = store.root / DATASET_ID.hex() / "chunks"
    chunks.rmdir()
    chunks.write_bytes(b"in the way")
    sources = Sources(a=honest)
    with pytest.raises(NotADirectoryError):
        await fetch_dataset(DATASET_ID, sources.urls, store, sources)
