"""A peer that speaks /p2p/v1 and serves whatever blocks a test gives it, true or false.

Owns the answers of one dishonest node, on a real socket. What honest nodes make of them is the tests' affair.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import httpx

from consensus.block import Witness, encode_header
from consensus.encoding import Hash32
from consensus.params import ChainSpec
from node.p2p.wire import NODE_HEADER, OCTETS, PREFIX, PROTOCOL
from tests.builders import BuiltBlock

Answer = tuple[int, bytes]
"""Status and body."""
NOT_FOUND: Answer = (404, b'{"code": "unknown-block"}')


class ForgedPeer:
    """One listening peer that says its active chain ends with `tip`."""

    def __init__(self, spec: ChainSpec, tip: BuiltBlock) -> None:
        self._spec = spec
        self._branch = tip.list_branch()
        self._served: dict[tuple[Hash32, Hash32 | None], bytes] = {
            (built.block_id, None): built.raw for built in self._branch
        }
        self._node_id = secrets.token_hex(16)
        self.asked: list[tuple[Hash32, Hash32 | None]] = []
        """(block id, witness id) of every block that somebody asked for."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._build_handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name="forged-peer")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def serve(self, block_id: Hash32, raw: bytes) -> None:
        """Answer with these bytes to whoever asks for a block."""
        self._served[block_id, None] = raw

    def serve_witness(self, built: BuiltBlock, asked_for: Hash32, witness: Witness) -> None:
        """Answer with this witness to whoever asks for a certain one of a block."""
        self._served[built.block_id, asked_for] = built.with_witness(witness).raw

    def greet(self, urls: Sequence[str]) -> None:
        """Shake hands with nodes, so that they call back and ask what there is."""
        for url in urls:
            response = httpx.post(url + PREFIX + "/handshake", json=self._build_hello(), trust_env=False)
            assert response.is_success, response.text

    def announce(self, urls: Sequence[str], block_id: Hash32) -> None:
        """Tell nodes of a block."""
        body = {"kind": "block", "id": block_id.hex()}
        for url in urls:
            response = httpx.post(
                url + PREFIX + "/announce", json=body, headers={NODE_HEADER: self._node_id}, trust_env=False
            )
            assert response.is_success, response.text

    def _build_hello(self) -> dict[str, Any]:
        return {
            "protocol": PROTOCOL,
            "chain_id": self._spec.chain_id.hex(),
            "node_id": self._node_id,
            "listen_url": self.url,
            "height": len(self._branch),
        }

    def _answer(self, method: str, path: str, query: str, body: bytes) -> Answer:
        route = path.removeprefix(PREFIX)
        if route.startswith("/blocks/"):
            wanted = parse_qs(query).get("witness", [])
            return self._answer_block(bytes.fromhex(route[8:]), bytes.fromhex(wanted[0]) if wanted else None)
        answers: dict[str, Callable[[], bytes]] = {
            "POST /handshake": lambda: json.dumps(self._build_hello()).encode(),
            "POST /headers": lambda: self._encode_headers_above(json.loads(body)["locator"]),
            "POST /announce": lambda: b"",
            "POST /transactions": lambda: b"",
            "GET /transactions": lambda: b"",
            "GET /addresses": lambda: b'{"addresses": []}',
        }
        build = answers.get(f"{method} {route}")
        return (200, build()) if build else NOT_FOUND

    def _answer_block(self, block_id: Hash32, witness_id: Hash32 | None) -> Answer:
        self.asked.append((block_id, witness_id))
        raw = self._served.get((block_id, witness_id))
        return NOT_FOUND if raw is None else (200, raw)

    def _encode_headers_above(self, locator: Sequence[str]) -> bytes:
        known = [n for n, built in enumerate(self._branch, start=1) if built.block_id.hex() in locator]
        return b"".join(encode_header(built.header) for built in self._branch[max(known, default=0) :])

    def _build_handler(self) -> type[BaseHTTPRequestHandler]:
        peer = self

        class Handler(BaseHTTPRequestHandler):
            """HTTP/1.0: no connection outlives its answer, so that none is left when the peer ends."""

            def do_GET(self) -> None:
                self._reply("GET", b"")

            def do_POST(self) -> None:
                self._reply("POST", self.rfile.read(int(self.headers["Content-Length"])))

            def log_message(self, format: str, *arguments: Any) -> None:
                """Silent."""

            def _reply(self, method: str, body: bytes) -> None:
                parts = urlsplit(self.path)
                status, answer = peer._answer(method, parts.path, parts.query, body)
                self.send_response(status)
                self.send_header("Content-Type", OCTETS)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

        return Handler
