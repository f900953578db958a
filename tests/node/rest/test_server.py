"""Serving and stopping: in this process with open streams, and as the real command."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from chain.database import check_database
from chain.spec_file import write_chain_spec
from consensus.address import encode_address
from node.data_directory import DataDirectoryError, load_admin_token
from node.settings import NodeSettings
from tests.builders import MINER, build_spec
from tests.node.rest.conftest import TestNode, assert_problem, serve, wait_until

TEMPLATE = f"/v1/mining/template?address={encode_address(MINER)}"


async def test_stopping_ends_streams_and_long_polls_at_once(node: TestNode) -> None:
    async with serve(node) as client, client.stream("GET", "/v1/events") as stream:
        lines = stream.aiter_lines()
        assert await anext(lines) == "event: tip"
        work_id = (await client.get(TEMPLATE)).json()["workid"]
        poll = asyncio.create_task(client.get(f"{TEMPLATE}&longpoll={work_id}"))
        await wait_until(lambda: node.runtime.events.reader_count == 2)
        node.runtime.request_stop()
        async with asyncio.timeout(4):
            assert_problem(await poll, 503, "shutting-down")
            assert [line async for line in lines][-1] == ""


async def test_a_failure_stops_the_server(node: TestNode) -> None:
    async with serve(node):
        node.runtime.fail(OSError("broken"))
        node.runtime.fail(OSError("broken again"))
        assert str(node.runtime.failure) == "broken"
        await wait_until(lambda: node.runtime.events.is_closed)


@pytest.fixture
def chain_file(tmp_path: Path) -> Path:
    """The tiny chain, as a file."""
    path = tmp_path / "chain.json"
    write_chain_spec(path, build_spec())
    return path


def build_command(*words: str | Path) -> list[str]:
    return [sys.executable, "-m", "node", "node", *map(str, words)]


@contextmanager
def running_node(*words: str | Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A node process on a free port, and its URL."""
    command = build_command("run", "--port", "0", *words)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line.startswith("listening on "), line
        yield process, f"http://{line.split()[-1]}"
    finally:
        process.kill()
        process.communicate()


def wait_until_live(url: str) -> None:
    with httpx.Client(
        base_url=url, trust_env=False, timeout=30, transport=httpx.HTTPTransport(retries=3)
    ) as client:
        # The socket listens before the server does, so the first request just waits.
        assert client.get("/health/live").json() == {"status": "live"}


@pytest.mark.parametrize("order", [signal.SIGTERM, signal.SIGINT, "shutdown"], ids=str)
def test_a_node_stops_in_order(tmp_path: Path, chain_file: Path, order: signal.Signals | str) -> None:
    directory = tmp_path / "node"
    with running_node("--dir", directory, "--chain", chain_file, "--log-format", "json") as (process, url):
        wait_until_live(url)
        with httpx.stream("GET", f"{url}/v1/events", timeout=30, trust_env=False) as stream:
            lines = stream.iter_lines()
            assert next(lines) == "event: tip"
            if isinstance(order, str):
                token = (directory / "admin.token").read_text().strip()
                headers = {"authorization": f"Bearer {token}"}
                assert httpx.post(f"{url}/v1/admin/{order}", headers=headers, trust_env=False).is_success
            else:
                process.send_signal(order)
            assert list(lines)[-1] == ""
        assert process.wait(30) == 0
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
    assert check_database(directory / "chain.sqlite3", build_spec()) == []


def run_refused(*words: str | Path) -> str:
    """The one line with which a command fails, and nothing on stdout."""
    run = subprocess.run(build_command(*words), capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stdout) == (1, "")
    lines = run.stderr.splitlines()
    assert len(lines) == 1, run.stderr
    return lines[0]


def test_a_taken_port_is_one_line(tmp_path: Path, chain_file: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = run_refused("run", "--dir", tmp_path / "node", "--chain", chain_file, "--port", str(port))
    assert line == f"freezenet: cannot listen on 127.0.0.1:{port}: Address already in use"


@pytest.mark.parametrize("token", [b"", b"\n", b"0" * 63, b"x" * 64, b"\xff" * 64])
def test_rejects_an_admin_token_that_is_none(tmp_path: Path, token: bytes) -> None:
    settings = NodeSettings(dir=tmp_path)
    settings.token_path.write_bytes(token)
    with pytest.raises(DataDirectoryError, match="remove it to get a new token"):
        load_admin_token(settings)
    settings.token_path.unlink()
    assert load_admin_token(settings) == load_admin_token(settings)


def test_another_chain_is_one_line(tmp_path: Path, chain_file: Path) -> None:
    directory = tmp_path / "node"
    directory.mkdir()
    write_chain_spec(directory / "chain.json", build_spec(name="other"))
    line = run_refused("run", "--dir", directory, "--chain", chain_file)
    assert line.startswith(f"freezenet: {directory} holds chain other ")
    assert f"not tiny {build_spec().chain_id.hex()}" in line


def test_a_directory_that_cannot_be_written_is_one_line(tmp_path: Path, chain_file: Path) -> None:
    line = run_refused("run", "--dir", chain_file / "node", "--chain", chain_file)
    assert line == f"freezenet: cannot write to {chain_file / 'node'}: Not a directory"


def test_a_directory_without_a_chain_is_one_line(tmp_path: Path) -> None:
    line = run_refused("run", "--dir", tmp_path)
    assert "holds no chain" in line


def test_a_second_node_in_a_directory_is_one_line(tmp_path: Path, chain_file: Path) -> None:
    directory = tmp_path / "node"
    with running_node("--dir", directory, "--chain", chain_file) as (_, url):
        wait_until_live(url)
        command = build_command("run", "--dir", directory, "--port", "0")
        run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1].startswith("freezenet: ")
    assert "Traceback" not in run.stderr


def test_a_full_disk_is_one_line(tmp_path: Path, chain_file: Path) -> None:
    directory = tmp_path / "node"
    directory.mkdir()
    os.symlink("/dev/full", directory / "chain.json.new")
    line = run_refused("init", "--dir", directory, "--chain", chain_file)
    assert "No space left on device" in line
