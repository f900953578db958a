"""What an operator may set for a node: arguments of `freezenet node run`, then FREEZENET_… variables.

Owns names, defaults and ranges. What fixes a chain is not set here: that is chain.json.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import httpx
from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

_EVERYWHERE = ("0.0.0.0", "::")
_LAST_PORT = 65_535

LogFormat = Literal["json", "text"]
LogLevel = Literal["debug", "info", "warning", "error"]
UrlList = Annotated[tuple[str, ...], NoDecode]
"""URLs; in a variable they are separated by commas."""


class NodeSettings(BaseSettings):
    """The settings of one node process."""

    model_config = SettingsConfigDict(env_prefix="FREEZENET_", frozen=True, extra="forbid")

    dir: Path
    """Data directory: chain, datasets, admin token."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Annotated[int, Field(ge=0, le=_LAST_PORT)] = 8645
    """Port to listen on; 0 lets the system choose."""
    listen_url: str | None = None
    """URL under which peers reach this node; http://host:port where none is given."""
    peers: UrlList = ()
    """URLs of nodes to connect to."""
    dataset_sources: UrlList = ()
    """URLs of dataset servers or nodes that have the chain's dataset."""
    allow_private_peers: bool = False
    """Whether peers in private address ranges may be contacted."""
    verification_workers: Annotated[int, Field(ge=1, le=64)] = 1
    """Processes that evaluate witnesses."""
    log_format: LogFormat = "text"
    """How log lines are written to stderr."""
    log_level: LogLevel = "info"
    """The least severe level that is logged."""
    admin_remote: bool = False
    """Whether admin routes answer to other machines too; the bearer token is needed either way."""

    @field_validator("peers", "dataset_sources", mode="before")
    @classmethod
    def _split_urls(cls, value: object) -> object:
        urls = value.split(",") if isinstance(value, str) else value
        if not isinstance(urls, list | tuple):
            return urls
        return tuple(url.strip().rstrip("/") for url in urls if isinstance(url, str) and url.strip())

    @field_validator("peers", "dataset_sources")
    @classmethod
    def _check_urls(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for url in urls:
            check_url(url)
        return urls

    @field_validator("listen_url")
    @classmethod
    def _check_listen_url(cls, url: str | None) -> str | None:
        if url is None:
            return None
        check_url(url)
        return url.rstrip("/")

    @property
    def own_url(self) -> str | None:
        """The URL under which peers reach this node; None where it listens everywhere and was not told."""
        if self.listen_url is None and self.host in _EVERYWHERE:
            return None
        return self.listen_url or f"http://{format_host(self.host)}:{self.port}"

    @property
    def chain_path(self) -> Path:
        """The file that fixes the chain."""
        return self.dir / "chain.json"

    @property
    def database_path(self) -> Path:
        """The chain's database."""
        return self.dir / "chain.sqlite3"

    @property
    def datasets_path(self) -> Path:
        """The root of the dataset store."""
        return self.dir / "datasets"

    @property
    def token_path(self) -> Path:
        """The file with the admin token, readable by its owner alone."""
        return self.dir / "admin.token"


def format_host(host: str) -> str:
    """The host as it stands in a URL: IPv6 addresses in brackets."""
    return f"[{host}]" if ":" in host else host


def check_url(url: str) -> None:
    """Raises ValueError for anything but an http or https URL of a host and a port that there can be."""
    try:
        parts = httpx.URL(url)
        # As the resolver does it, which refuses empty labels and long ones.
        parts.raw_host.decode("ascii").encode("idna")
    except (httpx.InvalidURL, ValueError) as error:
        raise ValueError(f"{url!r} is not an http or https URL: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.host:
        raise ValueError(f"{url!r} is not an http or https URL")
    if parts.port is not None and not 1 <= parts.port <= _LAST_PORT:
        raise ValueError(f"{url!r} is not an http or https URL: ports are 1 to {_LAST_PORT:,}")
