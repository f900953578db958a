"""Log lines on stderr: for people as text, for machines as one JSON object a line.

Everything logs through the standard library's loggers; structlog only gives the lines their form.
"""

from __future__ import annotations

import logging
import sys

import structlog
from structlog.typing import Processor

from node.settings import LogFormat

_QUIET = ("httpx", "httpcore", "alembic", "asyncio")
"""Libraries whose word on every request would drown the node's own."""


def configure_logging(log_format: LogFormat, level: str) -> None:
    """Send every logger of the process to stderr in this form."""
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_choose_renderers(log_format),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    set_log_level(level)


def set_log_level(level: str) -> None:
    """Change the least severe level that is logged: debug, info, warning or error."""
    logging.getLogger().setLevel(level.upper())


def _choose_renderers(log_format: LogFormat) -> list[Processor]:
    if log_format == "json":
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
