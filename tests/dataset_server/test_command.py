"""`freezenet dataset`, up to a real server that real sockets fetch from."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx
import pytest
from PIL import Image

from dataset_server.client import FetchProgress, fetch_dataset
from dataset_server.errors import DatasetUnavailable
from dataset_server.manifest import ChunkKey
from dataset_server.store import DatasetStore
from node.cli import main
from tests.dataset_server.samples import build_dataset, fill_store, get_chunk_path

DATASET_ID = build_dataset().spec.dataset_id
DIGITS_ID = "7e8c6234a4d1870a4759be0cc69edf7f7dff5151adbf9a2959e701dc80c52d80"
DEADLINE_SECONDS = 60


@pytest.fixture(autouse=True)
def _keep_signals() -> Iterator[None]:
    """The command line installs a handler for SIGTERM."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@asynccontextmanager
async def _serve(root: Path, prelude: str = "pass") -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """The server as a process that first runs the prelude, and its URL."""
    code = f"import sys; {prelude}; from node.cli import main; sys.exit(main())"
    words = ["dataset", "serve", "--dir", str(root), "--port", "0"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, *words, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            line = (await process.stderr.readline()).decode()
        match = re.search(r"served on (\S+)", line)
        assert match, line
        yield process, f"http://{match[1]}"
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def _run_json(capsys: pytest.CaptureFixture[str], *words: object) -> list[dict[str, object]]:
    assert main([*map(str, words), "--json"]) == 0
    items: list[dict[str, object]] = json.loads(capsys.readouterr().out)["datasets"]
    return items


def test_imports_digits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, file = tmp_path / "store", tmp_path / "digits.bin"
    (item,) = _run_json(capsys, "dataset", "import", "digits", "--out", root, "--file", file)
    assert item["dataset_id"] == DIGITS_ID
    assert DatasetStore(root).has(bytes.fromhex(DIGITS_ID))
    for path in (root, file):
        (told,) = _run_json(capsys, "dataset", "info", path)
        assert (told["dataset_id"], told["n_train"], told["n_eval"]) == (DIGITS_ID, 1_297, 500)
        (verdict,) = _run_json(capsys, "dataset", "verify", path)
        assert verdict == {"dataset_id": DIGITS_ID, "problem": None}


def test_imports_a_folder_and_tells_its_decoder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / "pictures" / split / name).mkdir(parents=True)
            Image.new("RGB", (4, 4)).save(tmp_path / "pictures" / split / name / "1.png")
    assert main(["dataset", "import", "folder", f"{tmp_path}/pictures", "--out", f"{tmp_path}/store"]) == 0
    capsys.readouterr()
    (item,) = _run_json(capsys, "dataset", "info", tmp_path / "store")
    assert item["class_names"] == ["cat", "dog"]
    assert str(item["decoder"]).startswith("Pillow")
    assert item["complete"] is True


def test_prints_lines_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill_store(tmp_path)
    assert main(["dataset", "info", str(tmp_path)]) == 0
    assert re.search(rf"^dataset_id +{DATASET_ID.hex()}$", capsys.readouterr().out, re.MULTILINE)
    assert main(["dataset", "verify", str(tmp_path)]) == 0
    assert re.search(r"^problem +none$", capsys.readouterr().out, re.MULTILINE)


def test_verify_fails_on_damage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill_store(tmp_path)
    get_chunk_path(tmp_path, DATASET_ID, ChunkKey("train", 1)).write_bytes(b"damaged")
    assert main(["dataset", "verify", str(tmp_path)]) == 1
    assert "chunk 1 of train" in capsys.readouterr().out


def test_tells_a_damaged_manifest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill_store(tmp_path)
    (tmp_path / DATASET_ID.hex() / "manifest.json").write_bytes(b"{}")
    assert main(["dataset", "info", str(tmp_path)]) == 0
    assert "its manifest is damaged" in capsys.readouterr().out
    assert main(["dataset", "verify", str(tmp_path)]) == 1


@pytest.mark.parametrize(
    ("words", "exit_code", "line"),
    [
        (["import", "digits"], 2, "name a store with --out"),
        (["import", "folder", "{}/nowhere", "--out", "{}/store"], 1, "train is not a directory"),
        (["import", "digits", "--file", "{}/taken/x"], 1, "taken"),
        (["info", "{}/nowhere"], 1, "nowhere has no dataset"),
        (["verify", "{}/taken"], 1, "undecodable"),
        (["serve", "--dir", "{}", "--host", "a..b"], 1, "cannot listen on a..b:8700"),
        (["serve", "--dir", "{}", "--host", "192.0.2.1"], 1, "cannot listen on 192.0.2.1:8700"),
    ],
)
def test_rejects_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], exit_code: int, line: str
) -> None:
    (tmp_path / "taken").write_bytes(b"a file")
    assert main(["dataset", *(word.format(tmp_path) for word in words)]) == exit_code
    (error,) = capsys.readouterr().err.splitlines()
    assert line in error


def test_rejects_a_port_that_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert main(["dataset", "serve", "--dir", str(tmp_path), "--port", str(port)]) == 1
    (error,) = capsys.readouterr().err.splitlines()
    assert error == f"freezenet: cannot listen on 127.0.0.1:{port}: Address already in use"


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
async def test_serves_until_a_signal(tmp_path: Path, stop: signal.Signals) -> None:
    fill_store(tmp_path / "server")
    store = DatasetStore(tmp_path / "client")
    async with _serve(tmp_path / "server") as (process, url), asyncio.timeout(DEADLINE_SECONDS):
        await fetch_dataset(DATASET_ID, [url], store)
        assert store.load(DATASET_ID).spec == build_dataset().spec
        async with httpx.AsyncClient(trust_env=False) as http:
            head = await http.head(f"{url}/v1/datasets/{DATASET_ID.hex()}/eval/0")
        assert int(head.headers["Content-Length"]) == 65_000
        process.send_signal(stop)
        assert await process.wait() == 0


async def test_connections_that_ask_for_nothing_keep_nobody_out(tmp_path: Path) -> None:
    fill_store(tmp_path / "server")
    few = "from node import incoming; incoming.MAX_CONNECTIONS = 4; incoming.HEAD_SECONDS = 2.0"
    async with _serve(tmp_path / "server", few) as (_, url), asyncio.timeout(DEADLINE_SECONDS):
        target = httpx.URL(url)
        idle = [await asyncio.open_connection(target.host, target.port) for _ in range(8)]
        # Those without a place are closed at once, the others when they have said nothing for too long.
        for reader, writer in idle:
            with suppress(ConnectionResetError):
                assert await reader.read() == b""
            writer.close()
        store = DatasetStore(tmp_path / "client")
        await fetch_dataset(DATASET_ID, [url], store)
        assert store.load(DATASET_ID).spec == build_dataset().spec


async def test_resumes_after_lost_connections(tmp_path: Path) -> None:
    """A relay closes every connection after 70,000 bytes, so only the eval chunk passes."""
    fill_store(tmp_path / "server")
    store = DatasetStore(tmp_path / "client")
    async with _serve(tmp_path / "server") as (_, url), asyncio.timeout(DEADLINE_SECONDS):
        target = httpx.URL(url)

        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            from_server, to_server = await asyncio.open_connection(target.host, target.port)
            to_server.write((await reader.readuntil(b"\r\n\r\n")).replace(b"keep-alive", b"close"))
            data = await from_server.read(-1)
            writer.write(data[:70_000])
            to_server.close()
            writer.close()

        async with await asyncio.start_server(relay, "127.0.0.1", 0) as server:
            broken_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            with pytest.raises(DatasetUnavailable):
                await fetch_dataset(DATASET_ID, [broken_url], store)
        progress: list[FetchProgress] = []
        await fetch_dataset(DATASET_ID, [url], store, on_progress=progress.append)
    assert progress[0].done_bytes == build_dataset().spec.get_split_bytes("eval")
    assert store.list_missing(DATASET_ID) == []
