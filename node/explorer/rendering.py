"""From values to HTML: the templates, how values are written, and what a browser may do with a page."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, Response
from fastapi.routing import APIRoute
from jinja2 import Environment, PackageLoader, StrictUndefined

from consensus.address import encode_address
from consensus.errors import ConsensusError
from node.problems import ApiCode, ApiError, get_status
from node.routes.chain import SOFTWARE_VERSION

FILE_HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache"}
HEADERS = {
    # Whatever a block or a peer says, nothing but our own files runs or loads.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
        " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    **FILE_HEADERS,
}


def write_time(seconds: float) -> str:
    """Unix seconds as a date in UTC; those that no calendar has as they are."""
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"
    except (OverflowError, ValueError, OSError):
        return f"{seconds:,}"


def write_share(count: int, total: int) -> str:
    """Per cent of a split, rounded down: a hundred is all of it."""
    return f"{count * 1_000 // total / 10:.1f} %"


def write_number(value: float) -> str:
    """With commas between thousands; of other numbers than integers three digits, or all before the point."""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


_templates = Environment(
    loader=PackageLoader("node"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters |= {
    "address": encode_address,
    "time": write_time,
    "number": write_number,
}
_templates.globals |= {"share": write_share, "version": SOFTWARE_VERSION}


def render(request: Request, template: str, status_code: int = 200, **values: Any) -> HTMLResponse:
    """A page in the frame that all have."""
    name = request.app.state.runtime.spec.params.name
    frame = {"chain_name": name, "tip_id": request.state.tip_id}
    text = _templates.get_template(f"{template}.html").render(**frame, **values)
    return HTMLResponse(text, status_code, HEADERS)


class PageRoute(APIRoute):
    """A route that answers to HEAD as to GET, and refuses by a page, too.

    Where the node itself fails it is a problem as everywhere.
    """

    def __init__(self, *words: Any, **options: Any) -> None:
        super().__init__(*words, **options)
        # The server sends the same headers then, and no body.
        self.methods = {*(self.methods or ()), "HEAD"}

    def get_route_handler(self) -> Callable[[Request], Any]:
        """The handler, refusals caught."""
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            note_tip(request)
            try:
                return await handle(request)
            except ApiError as error:
                return render_refusal(request, error.code.status, error.code.when, error.detail)
            except ConsensusError as error:
                return render_refusal(request, get_status(error.code), error.code.when, error.detail)
            except RequestValidationError:
                return render_refusal(request, 400, ApiCode.BAD_REQUEST.when, "")

        return answer


def note_tip(request: Request) -> None:
    """Before anything is read: a page is never older than the tip that it names."""
    request.state.tip_id = request.app.state.runtime.chain.tip.block_id


def render_refusal(request: Request, status: int, when: str, detail: str) -> HTMLResponse:
    """A page that says why there is no other."""
    return render(request, "refusal", status, status=status, when=when, detail=detail)
