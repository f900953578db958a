"""The chain in a browser: pages for people, over what the REST interface tells programs.

Owns the pages and how they come to a browser. What they say is gathered by node.routes; templates and static
files lie in node/templates and node/static. A page works without scripts; with them it follows the chain.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from node.explorer import pages
from node.explorer.rendering import FILE_HEADERS


def mount_explorer(app: FastAPI) -> None:
    """Serves the pages from `/`, beside everything else."""
    app.include_router(pages.router, include_in_schema=False)
    app.mount("/static", _Files(packages=[("node", "static")]))


class _Files(StaticFiles):
    """Files that a browser asks for again, so that pages never meet the script of another version."""

    def file_response(self, *args: Any, **options: Any) -> Response:
        response = super().file_response(*args, **options)
        response.headers.update(FILE_HEADERS)
        return response
