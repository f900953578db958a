"""The HTTP application of a node: all routes over one runtime.

Owns what is mounted, the lifespan, and how many requests may wait at once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any, cast

from fastapi import FastAPI

from dataset_server.routes import build_dataset_router
from node.explorer import mount_explorer
from node.models import LogLevel, NewTransaction, Partition, PeerAddress, PeerToBan
from node.problems import Problem, install_handlers
from node.routes import (
    addresses,
    admin,
    blocks,
    chain,
    events,
    health,
    mining,
    peers,
    search,
    stats,
    transactions,
)
from node.routes.access import Places
from node.runtime import NodeRuntime

MAX_STREAMS = 64
MAX_LONG_POLLS = 256
MAX_SUBMISSIONS = 16
MAX_NETWORKS = 2

_ROUTERS = tuple(
    module.router
    for module in (
        *(chain, stats, search, blocks, transactions, addresses),
        *(peers, events, mining, health, admin),
    )
)
_REFERENCED = (NewTransaction, PeerAddress, PeerToBan, Partition, LogLevel, Problem)
"""Bodies that routes name by reference, because FastAPI does not see them in any signature."""


def build_app(runtime: NodeRuntime) -> FastAPI:
    """The application; it starts and stops the runtime with its lifespan."""
    app = _assemble()
    app.state.runtime = runtime
    app.state.stream_places = Places("event streams", MAX_STREAMS)
    app.state.long_poll_places = Places("long-polls", MAX_LONG_POLLS)
    app.state.submission_places = Places("submissions", MAX_SUBMISSIONS)
    app.state.network_places = Places("networks", MAX_NETWORKS)
    # Peers have their own protocol over the same HTTP; it is no part of the documented interface, and
    # neither are the pages for a browser.
    app.include_router(runtime.network.router, include_in_schema=False)
    mount_explorer(app)
    return app


def build_openapi() -> dict[str, Any]:
    """The OpenAPI document, without a running node."""
    return _assemble().openapi()


def _assemble() -> FastAPI:
    app = FastAPI(title="FreezeNet node", version=version("freezenet"), lifespan=_run)
    # The schema of one event in a stream, which FastAPI writes, came with 3.2.
    app.openapi_version = "3.2.0"
    for router in _ROUTERS:
        app.include_router(router)
    app.include_router(
        build_dataset_router(
            lambda: _get_runtime(app).dataset.store, lambda: {_get_runtime(app).dataset.dataset_id}
        )
    )
    install_handlers(app)
    _document_references(app)
    return app


@asynccontextmanager
async def _run(app: FastAPI) -> AsyncIterator[None]:
    runtime = _get_runtime(app)
    await runtime.start()
    try:
        yield
    finally:
        await runtime.stop()


def _get_runtime(app: FastAPI) -> NodeRuntime:
    return cast(NodeRuntime, app.state.runtime)


def _drop_validation_errors(document: dict[str, Any]) -> None:
    """FastAPI documents its own 422 for malformed parameters; here they are problems with status 400."""
    for operation in (item for path in document["paths"].values() for item in path.values()):
        content = operation["responses"].get("422", {}).get("content", {})
        if "HTTPValidationError" in str(content.get("application/json")):
            del operation["responses"]["422"]
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)


def _document_references(app: FastAPI) -> None:
    generate = app.openapi

    def generate_with_references() -> dict[str, Any]:
        document = generate()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        _drop_validation_errors(document)
        for model in _REFERENCED:
            schemas.setdefault(
                model.__name__, model.model_json_schema(ref_template="#/components/schemas/{model}")
            )
        return document

    app.openapi = generate_with_references  # type: ignore[method-assign]
