"""The two dataset routes, for the dataset server and for every node that mounts them.

    GET /v1/datasets/{dataset_id}                   the manifest
    GET /v1/datasets/{dataset_id}/{split}/{index}   a chunk

Both answers are named by what they hash to, so they never change: caches may keep them for ever. A store that
has only some chunks serves those.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path
from fastapi.responses import JSONResponse, Response

from consensus.dataset import SPLITS
from consensus.encoding import Hash32
from dataset_server.manifest import ChunkKey, Manifest, describe_manifest
from dataset_server.problems import build_problem, describe_problem
from dataset_server.store import DatasetStore

_ID_PATTERN = "^[0-9a-f]{64}$"
_INDEX_PATTERN = "^(0|[1-9][0-9]{0,9})$"
_IMMUTABLE = "public, max-age=31536000, immutable"
_RESPONSES: dict[int | str, dict[str, Any]] = {
    304: {"description": "The copy that If-None-Match names is the answer"},
    404: describe_problem("`not-found`: no such dataset or chunk"),
    503: describe_problem("`dataset-missing`: not here yet"),
}

# Documented here but checked by hand: what does not match is the same problem in every application.
DatasetIdText = Annotated[str, Path(json_schema_extra={"pattern": _ID_PATTERN})]
SplitText = Annotated[str, Path(json_schema_extra={"enum": [*SPLITS]})]
IndexText = Annotated[str, Path(json_schema_extra={"pattern": _INDEX_PATTERN})]
IfNoneMatch = Annotated[str | None, Header()]


@dataclass(frozen=True, slots=True)
class SplitAnswer:
    """A split in the answer of the manifest route."""

    bytes: int
    """Bytes of the whole split."""
    chunks: list[str]
    """Leaf hashes of its chunks in hex, in order."""


@dataclass(frozen=True, slots=True)
class ManifestAnswer:
    """The answer of the manifest route: docs/protocol.md §1."""

    dataset_hex: str
    """dataset_bytes in hex."""
    train: SplitAnswer
    eval: SplitAnswer


class ChunkResponse(Response):
    """The bytes of a chunk."""

    media_type = "application/octet-stream"


def build_dataset_router(
    get_store: Callable[[], DatasetStore],
    get_expected_ids: Callable[[], Collection[Hash32]] = frozenset[Hash32],
) -> APIRouter:
    """The routes over the store that `get_store` returns.

    A dataset that is not there is `not-found`, or `dataset-missing` if it is among those that
    `get_expected_ids` returns: the datasets that this process is fetching or waits for.
    """
    router = APIRouter(prefix="/v1/datasets", tags=["datasets"])
    routes = _DatasetRoutes(get_store, get_expected_ids)
    for path, endpoint, options in (
        ("/{dataset_id}", routes.get_manifest, {"response_model": ManifestAnswer}),
        ("/{dataset_id}/{split}/{index}", routes.get_chunk, {"response_class": ChunkResponse}),
    ):
        router.add_api_route(path, endpoint, methods=["GET"], responses=_RESPONSES, **options)
        router.add_api_route(path, endpoint, methods=["HEAD"], include_in_schema=False)
    return router


@dataclass(frozen=True, slots=True)
class _DatasetRoutes:
    # Plain functions, so that FastAPI runs them on its threads: they read files and hash.
    get_store: Callable[[], DatasetStore]
    get_expected_ids: Callable[[], Collection[Hash32]]

    def get_manifest(self, dataset_id: DatasetIdText, if_none_match: IfNoneMatch = None) -> Response:
        """The description of a dataset and the leaf hashes of its chunks, provable by its id."""
        manifest = self._find_manifest(dataset_id)
        if isinstance(manifest, Response):
            return manifest
        if _is_held(dataset_id, if_none_match):
            return _build_not_modified(dataset_id)
        return JSONResponse(describe_manifest(manifest), headers=_build_headers(dataset_id))

    def get_chunk(
        self,
        dataset_id: DatasetIdText,
        split: SplitText,
        index: IndexText,
        if_none_match: IfNoneMatch = None,
    ) -> Response:
        """A chunk of a split: 1,048,576 bytes of records, or what is left for the last one."""
        manifest = self._find_manifest(dataset_id)
        if isinstance(manifest, Response):
            return manifest
        key = _find_key(manifest, split, index)
        if key is None:
            return _build_not_found(f"dataset {dataset_id} has no chunk {index!r} of {split!r}")
        etag = manifest.get_hashes(key.split)[key.index].hex()
        if _is_held(etag, if_none_match):
            return _build_not_modified(etag)
        chunk = self.get_store().read_chunk(bytes.fromhex(dataset_id), key.split, key.index)
        if chunk is None:
            return _build_missing(f"chunk {key.index} of {key.split} of dataset {dataset_id} is not here yet")
        return ChunkResponse(chunk, headers=_build_headers(etag))

    def _find_manifest(self, id_text: str) -> Manifest | Response:
        if not re.fullmatch(_ID_PATTERN, id_text):
            return _build_not_found(f"{id_text!r} is not a dataset id")
        dataset_id = bytes.fromhex(id_text)
        manifest = self.get_store().get_manifest(dataset_id)
        if manifest is None and dataset_id in self.get_expected_ids():
            return _build_missing(f"dataset {id_text} is not here yet")
        return manifest or _build_not_found(f"dataset {id_text} is not served here")


def _find_key(manifest: Manifest, split_text: str, index_text: str) -> ChunkKey | None:
    if not re.fullmatch(_INDEX_PATTERN, index_text):
        return None
    index = int(index_text)
    matches = (ChunkKey(split, index) for split in SPLITS if split == split_text)
    return next((key for key in matches if index < len(manifest.get_hashes(key.split))), None)


def _is_held(etag: str, if_none_match: str | None) -> bool:
    held = [text.strip().removeprefix("W/") for text in (if_none_match or "").split(",")]
    return f'"{etag}"' in held or "*" in held


def _build_headers(etag: str) -> dict[str, str]:
    return {"ETag": f'"{etag}"', "Cache-Control": _IMMUTABLE}


def _build_not_modified(etag: str) -> Response:
    return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=_build_headers(etag))


def _build_not_found(detail: str) -> Response:
    return build_problem(HTTPStatus.NOT_FOUND, "not-found", detail)


def _build_missing(detail: str) -> Response:
    return build_problem(HTTPStatus.SERVICE_UNAVAILABLE, "dataset-missing", detail)
