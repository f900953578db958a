"""A real node: `freezenet node run` in a process of its own, its data directory, its log and its answers.

Owns starting, killing and waiting. What is asked of a node is the tests' affair.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import httpx
import psutil

from chain.chain import Chain
from chain.signatures import verify_signature
from chain.spec_file import write_chain_spec
from chain.store import open_store
from consensus.dataset import encode_split
from consensus.encoding import Hash32
from consensus.params import ChainSpec
from dataset_server.store import DatasetStore
from tests.builders import BuiltBlock, build_dataset, submit

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "node")
WAIT_SECONDS = 40.0
POLL_SECONDS = 0.02
LISTENING = "listening on "
MARK_VARIABLE = "ACCEPTANCE_NODE"
"""Inherited by every process that a node starts, so that they can be told from those of other nodes."""


def wait_until(condition: Callable[[], bool], what: str, seconds: float = WAIT_SECONDS) -> None:
    """Return once a condition holds. Raises AssertionError with `what` where it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(POLL_SECONDS)


def prepare_directory(directory: Path, spec: ChainSpec, blocks: Sequence[BuiltBlock] = ()) -> Path:
    """Make a data directory with the chain, its dataset and these blocks, their work taken as evaluated."""
    directory.mkdir(parents=True)
    write_chain_spec(directory / "chain.json", spec)
    dataset = build_dataset()
    train, eval_ = (encode_split(split.labels, split.pixels) for split in (dataset.train, dataset.eval))
    DatasetStore(directory / "datasets").put(dataset.spec, train, eval_)
    with closing(open_store(directory / "chain.sqlite3", spec)) as store:
        chain = Chain(store, spec, verify_signature)
        for block in blocks:
            submit(chain, block)
    return directory


def run_command(*arguments: str, seconds: float = 60.0) -> subprocess.CompletedProcess[str]:
    """A `freezenet` command, to its end."""
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=ROOT,
        env=build_environment(),
        capture_output=True,
        text=True,
        timeout=seconds,
    )


def build_environment() -> dict[str, str]:
    """This process's environment without settings of a node, one thread a process."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FREEZENET_")}
    return {**kept, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


class NodeProcess:
    """One node; `start` may be called again after its end, and it listens where it did before."""

    def __init__(self, directory: Path, peers: Sequence[str] = (), command: Sequence[str] = COMMAND) -> None:
        self.directory = directory
        self.port = 0
        self.peers = list(peers)
        self._command = tuple(command)
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0
        self._mark = uuid4().hex
        self._http = httpx.Client(trust_env=False, timeout=WAIT_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._http.close()

    @property
    def url(self) -> str:
        """Where it listens; known once it has started."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def database_path(self) -> Path:
        """Its database."""
        return self.directory / "chain.sqlite3"

    @property
    def log(self) -> str:
        """What it logged since its last start."""
        with (self.directory / "log").open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode("utf-8", errors="replace")

    @property
    def exit_code(self) -> int | None:
        """How it ended; None while it runs."""
        assert self._process is not None
        return self._process.poll()

    def start(self, command: Sequence[str] | None = None) -> None:
        """Start the process, by another command where one is given, and wait until it listens."""
        path = self.directory / "log"
        self._log_start = path.stat().st_size if path.exists() else 0
        with path.open("ab") as log:
            self._process = subprocess.Popen(
                [*(command or self._command), *self._build_arguments()],
                cwd=ROOT,
                env={**build_environment(), MARK_VARIABLE: self._mark},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        wait_until(lambda: self._is_listening() or self.exit_code is not None, "the node listens")
        assert self._is_listening(), self.log
        line = next(line for line in self.log.splitlines() if line.startswith(LISTENING))
        self.port = int(line.rpartition(":")[2])

    def wait_until_evaluating(self) -> None:
        """Return once blocks are judged."""
        wait_until(self._is_evaluating, f"{self.url} judges blocks")

    def wait_for_log(self, text: str) -> None:
        """Return once it has logged a text since its last start."""
        wait_until(lambda: text in self.log, f"{self.url} logs {text!r}")

    def wait_for_tip(self, block_id: Hash32) -> None:
        """Return once a block is its tip."""
        wait_until(lambda: self.get_tip() == block_id.hex(), f"{self.url} is at {block_id.hex()}")

    def wait_until_connected(self, urls: Iterable[str]) -> None:
        """Return once it is connected with all of these peers."""
        wanted = set(urls)
        wait_until(lambda: wanted <= self.list_connected(), f"{self.url} is connected with {wanted}")

    def stop(self) -> None:
        """End the process in order, by force where it takes too long."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End the process by kill -9."""
        assert self._process is not None
        self._process.kill()
        self.wait_for_kill()

    def wait_for_kill(self) -> None:
        """Return once something ended the process by kill -9 and its workers noticed."""
        wait_until(lambda: self.exit_code is not None, "the node is killed")
        assert self.exit_code == -signal.SIGKILL, self.log
        wait_until(lambda: not _list_marked(self._mark), "the workers of a killed node end")

    def get(self, path: str) -> dict[str, Any]:
        """The JSON object at a path."""
        response = self._http.get(self.url + path)
        assert response.is_success, response.text
        body: dict[str, Any] = response.json()
        return body

    def get_raw_block(self, block_id: Hash32) -> bytes | None:
        """The bytes of a block; None where it is not known."""
        response = self._http.get(f"{self.url}/v1/blocks/{block_id.hex()}/raw")
        return response.content if response.is_success else None

    def get_tip(self) -> str:
        """The id of its tip in hex."""
        tip: str = self.get("/v1/chain")["tip"]
        return tip

    def list_connected(self) -> set[str]:
        """The URLs of the peers that it is connected with."""
        peers = self.get("/v1/peers")["items"]
        return {peer["url"] for peer in peers if peer["state"] == "connected"}

    def get_metric(self, name: str) -> int:
        """The value of a metric without labels."""
        text = self._http.get(self.url + "/metrics").text
        line = next(line for line in text.splitlines() if line.startswith(f"freezenet_{name} "))
        return int(float(line.split()[1]))

    def post_block(self, raw: bytes, **query: int) -> httpx.Response:
        """Hand in a block."""
        return self._http.post(self.url + "/v1/mining/blocks", content=raw, params=query)

    def order(self, path: str, body: dict[str, Any]) -> None:
        """Give an order that needs the admin token."""
        token = (self.directory / "admin.token").read_text(encoding="utf-8").strip()
        response = self._http.post(
            f"{self.url}/v1/admin/{path}", json=body, headers={"Authorization": f"Bearer {token}"}
        )
        assert response.is_success, response.text

    def compute_tables_hash(self) -> str:
        """SHA-256 of the schema and of every row of every table, read beside the living process."""
        with closing(sqlite3.connect(f"file:{self.database_path}?mode=ro", uri=True)) as database:
            return sha256("\n".join(database.iterdump()).encode()).hexdigest()

    def _is_listening(self) -> bool:
        return LISTENING in self.log

    def _is_evaluating(self) -> bool:
        assert self.exit_code is None, self.log
        try:
            return self._http.get(self.url + "/health/ready").is_success
        except httpx.TransportError:
            return False

    def _build_arguments(self) -> list[str]:
        peers = [part for url in self.peers for part in ("--peer", url)]
        options = ["--allow-private-peers", "--log-format", "json", "--log-level", "debug"]
        return [
            *("node", "run", "--dir", str(self.directory), "--port", str(self.port)),
            *peers,
            *options,
        ]


def _list_marked(mark: str) -> list[psutil.Process]:
    """The living processes of one node."""
    return [process for process in psutil.process_iter() if _read_mark(process) == mark]


def _read_mark(process: psutil.Process) -> str | None:
    try:
        alive = process.status() != psutil.STATUS_ZOMBIE
        return process.environ().get(MARK_VARIABLE) if alive else None
    except (psutil.Error, OSError):
        return None
