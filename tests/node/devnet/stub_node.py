"""Answers as a node with unchecked blocks does: python -m tests.node.devnet.stub_node PORT BLOCKS."""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

from tests.node.devnet.fake_network import FakeNetwork, build_blocks

NETWORK = FakeNetwork({"node": build_blocks(int(sys.argv[2]))})


class Handler(BaseHTTPRequestHandler):
    """Passes requests on to the fake network."""

    def do_GET(self) -> None:
        answer = NETWORK.answer(httpx.Request("GET", f"http://node{self.path}"))
        self.send_response(answer.status_code)
        self.send_header("content-length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
