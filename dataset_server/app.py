"""The dataset server: the dataset routes and health, and nothing else."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from dataset_server.problems import build_problem
from dataset_server.routes import build_dataset_router
from dataset_server.store import DatasetStore


def build_app(store: DatasetStore) -> FastAPI:
    """The application over `store`; ready as soon as one dataset is complete."""
    app = FastAPI(title="FreezeNet dataset server")
    app.include_router(build_dataset_router(lambda: store))
    for status in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED):
        app.add_exception_handler(status, partial(_answer_no_route, status))

    @app.get("/health/live", tags=["health"])
    def get_liveness() -> dict[str, str]:
        """Whether the process answers."""
        return {"status": "live"}

    @app.get("/health/ready", tags=["health"], response_model=dict[str, str])
    def get_readiness() -> Response:
        """Whether a whole dataset is served."""
        if not any(store.has(dataset_id) for dataset_id in store.list_ids()):
            return build_problem(
                HTTPStatus.SERVICE_UNAVAILABLE, "dataset-missing", "no whole dataset is here"
            )
        return JSONResponse({"status": "ready"})

    return app


def _answer_no_route(status: HTTPStatus, request: Request, error: Exception) -> Response:
    # The error is Starlette's own; of what it carries only the Allow header of a 405 is of use.
    headers = getattr(error, "headers", None)
    code = status.phrase.lower().replace(" ", "-")
    return build_problem(status, code, f"{request.method} {request.url.path}", headers)
