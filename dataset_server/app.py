"""The dataset server: the dataset routes and health, and nothing else."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response

from dataset_server.problems import build_problem
from dataset_server.routes import build_dataset_router
from dataset_server.store import DatasetStore


def build_app(store: DatasetStore) -> FastAPI:
    """The application over `store`; ready as soon as one dataset is complete."""
    app = FastAPI(title="FreezeNet dataset server")
    app.include_router(build_dataset_router(lambda: store))

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
