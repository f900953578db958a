"""Answering peers: the routes below /p2p/v1. Who may ask how much is node.p2p.gate's."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeVar

from fastapi import APIRouter
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from chain.store import Store
from chain.view import View
from consensus.encoding import Hash32
from consensus.errors import BadDelivery
from consensus.transaction import SignedTransfer
from node.p2p.errors import PeerCode, Refusal
from node.p2p.gate import Gate, Session, get_client_host, read_body
from node.p2p.limits import MAX_HEADERS, MAX_LISTED_TRANSFERS, LimitTable, Message
from node.p2p.urls import normalise_url
from node.p2p.wire import (
    OCTETS,
    PREFIX,
    PROTOCOL,
    ROUTES,
    Addresses,
    Announcement,
    Hello,
    Locator,
    decode_transfers,
    encode_headers,
    encode_transfers,
)

PIECE_BYTES = 65_536
"""A block is sent in pieces, so that a slow reader holds up its own request and not this node's memory."""

Body = TypeVar("Body", bound=BaseModel)
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class PeerEvents:
    """What the routes tell the rest of the node."""

    build_hello: Callable[[], Hello]
    """Who this node is."""
    greeted: Callable[[Session], None]
    """A peer shook hands."""
    announced: Callable[[Session, Hash32], Awaitable[None]]
    """A peer has a block."""
    pushed: Callable[[Session, list[SignedTransfer]], Awaitable[None]]
    """A peer sent transfers; raises Refusal where one is a lie."""
    list_transfers: Callable[[int], tuple[SignedTransfer, ...]]
    """The oldest transfers of the mempool, so many at most."""
    list_urls: Callable[[], list[str]]
    """URLs to tell others of."""


Answer = Callable[[Request, Session], Awaitable[Response]]


def build_router(gate: Gate, limits: LimitTable, store: Store, events: PeerEvents) -> APIRouter:
    """The routes of every message."""
    desk = _Desk(gate, limits, store, events)
    answers: dict[Message, Answer] = {
        Message.HEADERS: desk.answer_headers,
        Message.BLOCK: desk.answer_block,
        Message.ANNOUNCE: desk.answer_announce,
        Message.GET_TRANSACTIONS: desk.answer_get_transactions,
        Message.PUSH_TRANSACTIONS: desk.answer_push_transactions,
        Message.ADDRESSES: desk.answer_addresses,
    }
    router = APIRouter(prefix=PREFIX)
    for message, (method, path) in ROUTES.items():
        endpoint = (
            _Handshake(gate, desk)
            if message is Message.HANDSHAKE
            else _Endpoint(gate, message, answers[message])
        )
        router.routes.append(Route(PREFIX + path, endpoint, methods=[method], include_in_schema=False))
    return router


class _Endpoint:
    """An ASGI application for one message: a request counts as in flight until its last byte is sent."""

    def __init__(self, gate: Gate, message: Message, answer: Answer) -> None:
        self._gate = gate
        self._message = message
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            session = self._gate.get_session(request)
            with self._gate.admit(self._message, session.host, session.node_id):
                response = await self._answer(request, session)
                await response(scope, receive, send)
        except Refusal as refusal:
            await _build_problem(self._gate, refusal)(scope, receive, send)


class _Handshake:
    """The one message that needs no session."""

    def __init__(self, gate: Gate, desk: _Desk) -> None:
        self._gate = gate
        self._desk = desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            with self._gate.admit(Message.HANDSHAKE, get_client_host(request), None):
                response = await self._desk.answer_handshake(request)
                await response(scope, receive, send)
        except Refusal as refusal:
            await _build_problem(self._gate, refusal)(scope, receive, send)


@dataclass(frozen=True, slots=True)
class _Desk:
    """Builds the answers."""

    gate: Gate
    limits: LimitTable
    store: Store
    events: PeerEvents

    async def answer_handshake(self, request: Request) -> Response:
        hello = await self._parse(request, Message.HANDSHAKE, Hello)
        mine = self.events.build_hello()
        url = _read_listen_url(hello)
        host = get_client_host(request)
        self.gate.check_stranger(host, url, hello.node_id)
        if hello.protocol != PROTOCOL:
            raise Refusal(PeerCode.OTHER_PROTOCOL, f"protocol {hello.protocol}, not {PROTOCOL}")
        if hello.chain_id != mine.chain_id:
            raise Refusal(PeerCode.OTHER_CHAIN, f"chain {hello.chain_id}, not {mine.chain_id}")
        if hello.node_id != mine.node_id:
            self.events.greeted(self.gate.open_session(host, hello, url))
        return _to_json(mine)

    async def answer_headers(self, request: Request, session: Session) -> Response:
        question = await self._parse(request, Message.HEADERS, Locator)
        locator = [bytes.fromhex(text) for text in question.locator]
        headers = await self._read(lambda view: view.get_headers_after(locator, MAX_HEADERS))
        return Response(encode_headers(headers), media_type=OCTETS)

    async def answer_block(self, request: Request, session: Session) -> Response:
        block_id = _parse_hash(request.path_params["block_id"])
        text = request.query_params.get("witness")
        witness_id = None if text is None else _parse_hash(text)
        raw = await self._read(lambda view: view.get_raw_block(block_id, witness_id))
        if raw is None:
            known = await self._read(lambda view: view.is_stored(block_id))
            raise Refusal(PeerCode.UNKNOWN_WITNESS if known else PeerCode.UNKNOWN_BLOCK)
        return StreamingResponse(_cut(raw), media_type=OCTETS, headers={"Content-Length": str(len(raw))})

    async def answer_announce(self, request: Request, session: Session) -> Response:
        announcement = await self._parse(request, Message.ANNOUNCE, Announcement)
        await self.events.announced(session, bytes.fromhex(announcement.id))
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def answer_get_transactions(self, request: Request, session: Session) -> Response:
        transfers = self.events.list_transfers(MAX_LISTED_TRANSFERS)
        return Response(encode_transfers(transfers), media_type=OCTETS)

    async def answer_push_transactions(self, request: Request, session: Session) -> Response:
        body = await read_body(request, self.limits[Message.PUSH_TRANSACTIONS].request_bytes)
        try:
            transfers = decode_transfers(body)
        except BadDelivery as error:
            raise Refusal(PeerCode.UNDECODABLE, error.detail) from error
        await self.events.pushed(session, transfers)
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def answer_addresses(self, request: Request, session: Session) -> Response:
        return _to_json(Addresses(addresses=self.events.list_urls()))

    async def _parse(self, request: Request, message: Message, model: type[Body]) -> Body:
        body = await read_body(request, self.limits[message].request_bytes)
        try:
            return model.model_validate_json(body)
        except ValidationError as error:
            raise Refusal(PeerCode.UNDECODABLE, f"{error.error_count()} errors") from error

    async def _read(self, query: Callable[[View], Found]) -> Found:
        def run() -> Found:
            with self.store.read() as view:
                return query(view)

        return await asyncio.to_thread(run)


def _read_listen_url(hello: Hello) -> str | None:
    try:
        return None if hello.listen_url is None else normalise_url(hello.listen_url)
    except ValueError as error:
        raise Refusal(PeerCode.UNDECODABLE, str(error)) from error


def _parse_hash(text: str) -> Hash32:
    if len(text) != 64 or not set(text) <= set("0123456789abcdef"):
        raise Refusal(PeerCode.UNDECODABLE, "not 64 lower-case hex digits")
    return bytes.fromhex(text)


async def _cut(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), PIECE_BYTES):
        yield data[start : start + PIECE_BYTES]


def _to_json(message: BaseModel) -> Response:
    return Response(message.model_dump_json(), media_type="application/json")


def _build_problem(gate: Gate, refusal: Refusal) -> Response:
    gate.refusals[refusal.code] += 1
    code = refusal.code
    headers = {}
    if refusal.retry_after_seconds is not None:
        headers["Retry-After"] = str(math.ceil(refusal.retry_after_seconds))
    body = {
        "type": "about:blank",
        "title": HTTPStatus(code.status).phrase,
        "status": code.status,
        "code": str(code),
        "detail": refusal.detail or code.when,
    }
    return JSONResponse(body, code.status, headers, "application/problem+json")
