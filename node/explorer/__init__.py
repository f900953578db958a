"""The chain in a browser: pages for people, over what the REST interface tells programs.

Owns the pages and how they come to a browser. What they say is gathered by node.routes; templates and static
files lie in node/templates and node/static. A page works without scripts; with them it follows the chain.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from node.explorer import pages
from node.explorer.rendering import FILE_HEADERS, note_tip, render_refusal
from node.problems import ApiCode, answer_http_exception


def mount_explorer(app: FastAPI) -> None:
    """Serves the pages from `/`, beside everything else."""
    app.include_router(pages.router, include_in_schema=False)
    app.mount("/static", _Files(packages=[("node", "static")]))
    app.add_exception_handler(404, _answer_unknown)


def _answer_unknown(request: Request, error: Exception) -> Response:
    """A page for who mistyped one, a problem for a program."""
    is_page = "text/html" in request.headers.get("accept", "")
    if not is_page or request.url.path.split("/")[1] in ("v1", "p2p"):
        response: Response = answer_http_exception(request, error)
    else:
        note_tip(request)
        response = render_refusal(request, 404, ApiCode.NOT_FOUND.when, "")
    response.headers["Vary"] = "Accept"
    return response


class _Files(StaticFiles):
    """Files that a browser asks for again, so that pages never meet the script of another version."""

    def file_response(self, *args: Any, **options: Any) -> Response:
        response = super().file_response(*args, **options)
        response.headers.update(FILE_HEADERS)
        return response
