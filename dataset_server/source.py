"""One source of a dataset: asks it over HTTP, reads no more than can be right, and keeps its record.

A lie (BadDelivery) bars the source at once; a failure only when it comes several times in a row.
"""

from __future__ import annotations

import asyncio
import logging

import httpx

from consensus.encoding import Hash32
from consensus.errors import BadDelivery, Code
from dataset_server.manifest import ChunkKey, Manifest, check_chunk, decode_manifest

_log = logging.getLogger("freezenet.dataset")

MANIFEST_BYTES = 8 * 1_048_576
"""The longest manifest that is read: enough for 120,000 chunks."""
REQUEST_SECONDS = 60.0
"""The longest time one answer may take, from the connection to its last byte."""
STALL_SECONDS = 10.0
"""The longest silence within an answer."""
FAILURES_IN_A_ROW = 3
"""So many bar a source."""


class SourceFailed(Exception):
    """The source did not answer, or not with what it was asked for; no lie is proved."""


def open_http(transport: httpx.AsyncBaseTransport | None) -> httpx.AsyncClient:
    """A client for sources; `transport` stands in for the network where it is given."""
    return httpx.AsyncClient(
        transport=transport,
        timeout=STALL_SECONDS,
        # A redirect could lead where the operator allowed nothing; a proxy has no place before loopback.
        follow_redirects=False,
        trust_env=False,
        # A compressed answer could be small on the wire and huge in memory.
        headers={"Accept-Encoding": "identity"},
    )


class Source:
    """A base URL and what it has done so far."""

    def __init__(self, url: str, http: httpx.AsyncClient) -> None:
        self.trouble = ""
        """Its last lie or failure, for people."""
        self.is_barred = False
        self._base = url.rstrip("/")
        self._http = http
        self._failures = 0
        if not _is_http_url(url):
            self.trouble, self.is_barred = "not an http(s) URL", True

    def __str__(self) -> str:
        return f"{self._base}: {self.trouble}"

    async def get_manifest(self, dataset_id: Hash32) -> Manifest | None:
        """The proved manifest; None, after taking note, where the source lied or failed.

        Raises RuleViolation(BAD_DATASET) where the id stands for a description that breaks protocol §1.
        """
        try:
            data = await self._read(f"/v1/datasets/{dataset_id.hex()}", MANIFEST_BYTES)
            manifest = await asyncio.to_thread(decode_manifest, data, dataset_id)
        except (SourceFailed, BadDelivery) as error:
            self._note(error)
            return None
        self._failures = 0
        return manifest

    async def get_chunk(self, dataset_id: Hash32, manifest: Manifest, key: ChunkKey) -> bytes | None:
        """The proved chunk; None, after taking note, where the source lied or failed."""
        path = f"/v1/datasets/{dataset_id.hex()}/{key.split}/{key.index}"
        try:
            data = await self._read(path, manifest.get_chunk_bytes(key))
            await asyncio.to_thread(check_chunk, manifest, key, data)
        except (SourceFailed, BadDelivery) as error:
            self._note(error)
            return None
        self._failures = 0
        return data

    def _note(self, error: SourceFailed | BadDelivery) -> None:
        self._failures += 1
        self.trouble = str(error)
        # Two requests are under way at once: what the second one meets must not lift the bar of the first.
        self.is_barred |= isinstance(error, BadDelivery) or self._failures >= FAILURES_IN_A_ROW
        _log.log(logging.WARNING if self.is_barred else logging.INFO, "dataset source %s", self)

    async def _read(self, path: str, limit_bytes: int) -> bytes:
        try:
            async with (
                asyncio.timeout(REQUEST_SECONDS),
                self._http.stream("GET", self._base + path) as answer,
            ):
                _check_answer(answer)
                return await _read_limited(answer, limit_bytes)
        except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, UnicodeError, OSError) as error:
            raise SourceFailed(f"{path} failed: {str(error) or type(error).__name__}") from error


def _is_http_url(url: str) -> bool:
    try:
        parsed = httpx.URL(url)
        return parsed.scheme in ("http", "https") and bool(parsed.host)
    except (httpx.InvalidURL, UnicodeError, TypeError):
        return False


def _check_answer(answer: httpx.Response) -> None:
    if answer.status_code != httpx.codes.OK:
        raise SourceFailed(f"answered {answer.status_code}")
    if answer.headers.get("Content-Encoding", "identity") != "identity":
        raise SourceFailed("answered in an encoding that was not asked for")


async def _read_limited(answer: httpx.Response, limit_bytes: int) -> bytes:
    data = bytearray()
    # Nothing is decompressed here: an answer in an encoding was refused before.
    async for part in answer.aiter_bytes():
        data += part
        if len(data) > limit_bytes:
            raise BadDelivery(Code.TOO_LARGE, f"more than {limit_bytes} bytes")
    return bytes(data)
