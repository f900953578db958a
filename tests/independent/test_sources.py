"""Where the independent verifier reads chains from, a live node and files, and its command line."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.independent import mutations
from tests.independent.mutations import flip
from tests.independent.tiny_chain import (
    DATASET_BYTES,
    DESCRIPTION,
    EVAL,
    SETTLED,
    TRAIN,
    TinyChain,
    build_tiny_chain,
    encode_task,
    mine,
)
from tools import independent_verifier as verifier

DATASET_PATH = f"/v1/datasets/{DESCRIPTION.dataset_id.hex()}"


@pytest.fixture
def tiny() -> TinyChain:
    return build_tiny_chain()


@dataclass
class FakeNode:
    """Answers by path, and something to do once after a path was served."""

    answers: dict[str, bytes]
    url: str = ""
    after: dict[str, Callable[[], None]] = field(default_factory=dict)

    def put_json(self, path: str, answer: dict[str, Any]) -> None:
        self.answers[path] = json.dumps(answer).encode()

    def put_chain(self, blocks: list[bytes], tip: verifier.Tip) -> None:
        """Serve these blocks above genesis, and nothing above the last."""
        for height in range(1, 100):
            self.answers.pop(f"/v1/blocks/{height}/raw", None)
        for height, raw in enumerate(blocks, start=1):
            self.answers[f"/v1/blocks/{height}/raw"] = raw
        answer = {"height": len(blocks), "tip": tip.block_id.hex(), "chain_work": str(tip.work)}
        self.put_json("/v1/chain", answer)

    def serve(self, path: str) -> bytes | None:
        answer = self.answers.get(path)
        self.after.pop(path, lambda: None)()
        return answer


def build_handler(node: FakeNode) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = node.serve(self.path)
            self.send_response(404 if answer is None else 200)
            self.send_header("Content-Length", str(len(answer or b"")))
            self.end_headers()
            self.wfile.write(answer or b"")

        def log_message(self, format: str, *args: Any) -> None:
            """Keep the requests out of the test's output."""

    return Handler


@pytest.fixture
def node(tiny: TinyChain, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNode]:
    """A server of the tiny chain on a free port of the loopback."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    fake = FakeNode({"/v1/blocks/0/raw": tiny.genesis_block})
    hexes = {"params": tiny.params, "task": encode_task(), "dataset": DATASET_BYTES}
    fake.put_json("/v1/chain/params", {f"{name}_hex": data.hex() for name, data in hexes.items()})
    splits = {
        name: {"bytes": len(data), "chunks": [verifier.merkle_leaf(data).hex()]}
        for name, data in (("train", TRAIN), ("eval", EVAL))
    }
    fake.put_json(DATASET_PATH, {"dataset_hex": DATASET_BYTES.hex(), **splits})
    fake.answers |= {f"{DATASET_PATH}/train/0": TRAIN, f"{DATASET_PATH}/eval/0": EVAL}
    fake.put_chain(list(tiny.blocks), tiny.tips[-1])
    server = ThreadingHTTPServer(("127.0.0.1", 0), build_handler(fake))
    fake.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield fake
    server.shutdown()
    thread.join()
    server.server_close()


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code and everything printed."""
    code = verifier.main([*arguments, "--now", str(SETTLED)])
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def test_verifies_a_live_node(node: FakeNode, tiny: TinyChain, capsys: pytest.CaptureFixture[str]) -> None:
    code, printed = run(["--node", node.url + "/"], capsys)
    lines = printed.splitlines()
    assert code == 0
    assert len(lines) == 6
    assert lines[2].startswith(f"block 3 {tiny.tips[3].block_id.hex()} rung 0 work 1000 train 233 eval 118")
    assert lines[-1].startswith("verified 5 blocks: ")
    assert "chain work 8000" in lines[-1]


def test_verifies_a_node_at_genesis(
    node: FakeNode, tiny: TinyChain, capsys: pytest.CaptureFixture[str]
) -> None:
    node.put_chain([], tiny.tips[0])
    assert run(["--node", node.url], capsys)[0] == 0


def spoil_answer(node: FakeNode, path: str, change: dict[str, Any]) -> None:
    node.put_json(path, json.loads(node.answers[path]) | change)


LIES: dict[str, tuple[Callable[[FakeNode], None], str]] = {
    "block": (
        lambda node: node.answers.update({"/v1/blocks/2/raw": flip(node.answers["/v1/blocks/2/raw"], 189)}),
        "block 2",
    ),
    "genesis": (lambda node: node.answers.update({"/v1/blocks/0/raw": bytes(194)}), "genesis"),
    "missing block": (lambda node: node.answers.__delitem__("/v1/blocks/4/raw"), "node: GET /blocks/4/raw"),
    "tip": (lambda node: spoil_answer(node, "/v1/chain", {"tip": "00" * 32}), "node: the node's tip"),
    "work": (lambda node: spoil_answer(node, "/v1/chain", {"chain_work": "7999"}), "states chain work 7999"),
    "height": (lambda node: spoil_answer(node, "/v1/chain", {"height": 6}), "node: GET /blocks/6/raw"),
    "lower height": (lambda node: spoil_answer(node, "/v1/chain", {"height": 4}), "node: the node's tip"),
    "no height": (lambda node: node.put_json("/v1/chain", {"tip": ""}), "lacks"),
    "not json": (lambda node: node.answers.update({"/v1/chain": b"<html>"}), "node: GET /chain"),
    "a list": (lambda node: node.answers.update({"/v1/chain": b"[]"}), "not an object"),
    "task": (lambda node: spoil_answer(node, "/v1/chain/params", {"task_hex": "00"}), "task_hex"),
    "not hex": (lambda node: spoil_answer(node, "/v1/chain/params", {"params_hex": "xy"}), "malformed"),
    "chunk": (lambda node: node.answers.update({f"{DATASET_PATH}/train/0": EVAL}), "chunk train/0"),
    "hash list": (
        lambda node: spoil_answer(node, DATASET_PATH, {"eval": {"bytes": 0, "chunks": []}}),
        "dataset",
    ),
    "size": (
        lambda node: spoil_answer(
            node, DATASET_PATH, {"eval": {"bytes": 1, "chunks": [verifier.merkle_leaf(EVAL).hex()]}}
        ),
        "not as listed",
    ),
    "another dataset": (
        lambda node: spoil_answer(node, DATASET_PATH, {"dataset_hex": "00" * 80}),
        "another dataset",
    ),
}


@pytest.mark.parametrize("name", LIES)
def test_rejects_a_node_that_lies(name: str, node: FakeNode, capsys: pytest.CaptureFixture[str]) -> None:
    lie, message = LIES[name]
    lie(node)
    code, printed = run(["--node", node.url], capsys)
    assert code == 1
    assert "refused: " in printed
    assert message in printed


def test_rejects_a_node_that_is_not_there(node: FakeNode, capsys: pytest.CaptureFixture[str]) -> None:
    code, printed = run(["--node", "http://127.0.0.1:1"], capsys)
    assert (code, "refused: node" in printed) == (1, True)


def test_starts_again_when_the_chain_is_reorganised_meanwhile(
    node: FakeNode, tiny: TinyChain, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks, tips = list(tiny.blocks[:2]), list(tiny.tips[:3])
    for seconds in (30, 20, 20):
        blocks.append(mine(tiny.chain, tips[-1], seconds))
        tips.append(verifier.check_block(tiny.chain, tips[-1], blocks[-1], SETTLED))
    node.after["/v1/blocks/3/raw"] = lambda: node.put_chain(blocks, tips[-1])
    code, printed = run(["--node", node.url], capsys)
    assert code == 0
    assert "starting again" in printed
    assert f"tip {tips[-1].block_id.hex()}" in printed


def test_starts_again_when_a_child_commits_to_a_twin_meanwhile(
    node: FakeNode, tiny: TinyChain, capsys: pytest.CaptureFixture[str]
) -> None:
    """The tip's witness may be replaced by the one that its child commits to."""
    node.answers["/v1/blocks/4/raw"] = build_twin(tiny, 3)
    node.after["/v1/blocks/4/raw"] = lambda: node.put_chain(list(tiny.blocks), tiny.tips[-1])
    code, printed = run(["--node", node.url], capsys)
    assert code == 0
    assert "starting again" in printed


def test_gives_up_on_a_chain_that_never_stands_still(
    node: FakeNode, tiny: TinyChain, capsys: pytest.CaptureFixture[str]
) -> None:
    twin, own, path = build_twin(tiny, 3), tiny.blocks[3], "/v1/blocks/4/raw"

    def exchange() -> None:
        node.answers[path] = own if node.answers[path] == twin else twin
        node.after[path] = exchange

    node.answers[path] = twin
    node.after[path] = exchange
    code, printed = run(["--node", node.url], capsys)
    assert code == 1
    assert "changed during each of 3 attempts" in printed


def build_twin(tiny: TinyChain, at: int) -> bytes:
    """The block at an index with another witness that verifies."""
    return mutations.get_solutions(tiny.chain, tiny.tips[at], tiny.blocks[at])[1][0]


# --------------------------------------------------------------------------------------------- files


@pytest.fixture
def files(tiny: TinyChain, tmp_path: Path) -> Path:
    """The tiny chain in files: parameters as text, everything else binary."""
    (tmp_path / "params.hex").write_text(tiny.params.hex() + "\n")
    (tmp_path / "dataset.bin").write_bytes(DATASET_BYTES + TRAIN + EVAL)
    for height, raw in enumerate((tiny.genesis_block, *tiny.blocks)):
        (tmp_path / f"{height}.block").write_bytes(raw)
    return tmp_path


def list_arguments(files: Path, heights: range) -> list[str]:
    blocks = [str(files / f"{height}.block") for height in heights]
    sources = ["--params", str(files / "params.hex"), "--dataset", str(files / "dataset.bin")]
    return [*sources, "--blocks", *blocks]


@pytest.mark.parametrize("first", [0, 1])
def test_verifies_files(files: Path, first: int, capsys: pytest.CaptureFixture[str]) -> None:
    code, printed = run(list_arguments(files, range(first, 6)), capsys)
    assert (code, len(printed.splitlines())) == (0, 6)


def test_rejects_files_without_their_first_block(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, printed = run(list_arguments(files, range(2, 6)), capsys)
    assert (code, printed.startswith("refused: parent: block 1: ")) == (1, True)


def test_rejects_another_genesis_file(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (files / "0.block").write_bytes(bytes(194))
    code, printed = run(list_arguments(files, range(6)), capsys)
    assert (code, "genesis" in printed) == (1, True)


def test_rejects_a_missing_file(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(list_arguments(files, range(7)), capsys)[0] == 1


def test_rejects_parameters_without_a_dataset(files: Path) -> None:
    with pytest.raises(SystemExit) as caught:
        verifier.main(["--params", str(files / "params.hex")])
    assert caught.value.code == 2
