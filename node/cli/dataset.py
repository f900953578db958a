"""`freezenet dataset`: import, serve, inspect and verify datasets.

Owns words and exit codes; the work is dataset_server's, imported only by the command that needs it.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from consensus.dataset import DatasetSpec, encode_dataset_spec
from consensus.encoding import Hash32
from consensus.errors import ConsensusError
from dataset_server.errors import DatasetError, DatasetMissing
from dataset_server.files import read_dataset_file, write_dataset_file
from dataset_server.info import DatasetInfo
from dataset_server.manifest import EncodedDataset
from dataset_server.store import DatasetStore
from node.cli.errors import CommandError, UsageError

app = typer.Typer(help="Import, serve, inspect and verify datasets.", no_args_is_help=True)
SHUTDOWN_SECONDS = 3

import_app = typer.Typer(help="Turn images into a dataset.", no_args_is_help=True)
app.add_typer(import_app, name="import")

SourceOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="Where the files lie; without it torchvision's downloader fetches them."
    ),
]
OutOption = Annotated[Path | None, typer.Option("--out", help="Directory of the store to import into.")]
FileOption = Annotated[
    Path | None, typer.Option("--file", help="Also, or only, write the dataset to one file.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DatasetPath = Annotated[Path, typer.Argument(help="Directory of a store, or a dataset file.")]


@import_app.command("digits")
def import_digits_command(
    out: OutOption = None, file: FileOption = None, as_json: JsonOption = False
) -> None:
    """The 1,797 handwritten digits that come with scikit-learn."""
    from dataset_server.importers import get_digits_info, import_digits

    _import(import_digits, get_digits_info, out, file, as_json)


@import_app.command("fashion-mnist")
def import_fashion_mnist_command(
    source: SourceOption = None, out: OutOption = None, file: FileOption = None, as_json: JsonOption = False
) -> None:
    """Fashion-MNIST, from its four idx files, plain or gzipped."""
    from dataset_server.fashion_mnist import get_fashion_mnist_info, import_fashion_mnist

    _import(lambda: import_fashion_mnist(source), get_fashion_mnist_info, out, file, as_json)


@import_app.command("cifar-10")
def import_cifar10_command(
    source: SourceOption = None, out: OutOption = None, file: FileOption = None, as_json: JsonOption = False
) -> None:
    """CIFAR-10, from its six binary files, or from a copy of it as a folder of images."""
    from dataset_server.cifar10 import get_cifar10_info, import_cifar10

    _import(lambda: import_cifar10(source), lambda: get_cifar10_info(source), out, file, as_json)


@import_app.command("folder")
def import_folder_command(
    path: Annotated[Path, typer.Argument(help="Directory with train/CLASS/* and test/CLASS/*.")],
    out: OutOption = None,
    file: FileOption = None,
    as_json: JsonOption = False,
) -> None:
    """A folder of images, all of one size and either grey or RGB."""
    from dataset_server.importers import get_image_folder_info, import_image_folder

    _import(lambda: import_image_folder(path), lambda: get_image_folder_info(path), out, file, as_json)


@app.command("serve")
def serve_command(
    directory: Annotated[Path, typer.Option("--dir", help="Directory of the store.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 8700,
) -> None:
    """Serve the datasets of a store over HTTP until Ctrl-C."""
    from dataset_server.app import build_app
    from node.cli.node import open_listener
    from node.incoming import BoundedServer, raise_file_limit

    if not directory.is_dir():
        raise UsageError(f"{directory} is no directory")
    store = DatasetStore(directory)
    listener = open_listener(host, port)
    address = "{}:{}".format(*listener.getsockname()[:2])
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    logging.info("datasets in %s: %d, served on %s", directory, len(store.list_ids()), address)
    raise_file_limit()
    # The server stops in order, then raises the signal that stopped it once more.
    with listener, suppress(KeyboardInterrupt):
        BoundedServer(build_app(store), SHUTDOWN_SECONDS).run(sockets=[listener])


@app.command("info")
def info_command(path: DatasetPath, as_json: JsonOption = False) -> None:
    """Describe the datasets of a store, or of a file."""
    with _failing_in_one_line():
        items = [_describe_file(path)] if path.is_file() else _describe_store(path)
    _print_items(items, as_json)


@app.command("verify")
def verify_command(path: DatasetPath, as_json: JsonOption = False) -> None:
    """Compare every byte of a store, or of a file, with its hashes.

    The exit code is 1 where a dataset is damaged or incomplete.
    """
    with _failing_in_one_line():
        items = [_verify_file(path)] if path.is_file() else _verify_store(path)
    _print_items(items, as_json)
    if any(item.get("problem") for item in items):
        raise typer.Exit(1)


@contextmanager
def _failing_in_one_line() -> Iterator[None]:
    try:
        yield
    except (DatasetError, ConsensusError) as error:
        raise CommandError(str(error)) from error


def _import(
    read: Callable[[], EncodedDataset],
    describe: Callable[[], DatasetInfo],
    out: Path | None,
    file: Path | None,
    as_json: bool,
) -> None:
    if out is None and file is None:
        raise UsageError("name a store with --out, a file with --file, or both")
    with _failing_in_one_line():
        dataset, info = read(), describe()
        if out is not None:
            DatasetStore(out).put(dataset.spec, dataset.train, dataset.eval, info)
        if file is not None:
            write_dataset_file(file, dataset)
    _print_items([_describe_spec(dataset.spec) | _describe_info(info)], as_json)


def _describe_spec(spec: DatasetSpec) -> dict[str, Any]:
    return {
        "dataset_id": spec.dataset_id.hex(),
        "dataset_hex": encode_dataset_spec(spec).hex(),
        "image": f"{spec.c}x{spec.h}x{spec.w}",
        "classes": spec.classes,
        "n_train": spec.n_train,
        "n_eval": spec.n_eval,
    }


def _describe_info(info: DatasetInfo | None) -> dict[str, Any]:
    if info is None:
        return {}
    return {"source": info.source, "class_names": list(info.class_names), "decoder": info.decoder}


def _describe_file(path: Path) -> dict[str, Any]:
    return _describe_spec(read_dataset_file(path).spec)


def _describe_store(root: Path) -> list[dict[str, Any]]:
    store = DatasetStore(root)
    return [_describe_entry(store, dataset_id) for dataset_id in _list_ids(store, root)]


def _describe_entry(store: DatasetStore, dataset_id: Hash32) -> dict[str, Any]:
    spec = store.get_spec(dataset_id)
    if spec is None:
        return {"dataset_id": dataset_id.hex(), "problem": "its manifest is damaged"}
    complete = {"complete": store.has(dataset_id)}
    return _describe_spec(spec) | complete | _describe_info(store.get_info(dataset_id))


def _verify_file(path: Path) -> dict[str, Any]:
    return {"dataset_id": read_dataset_file(path).spec.dataset_id.hex(), "problem": None}


def _verify_store(root: Path) -> list[dict[str, Any]]:
    store = DatasetStore(root)
    return [
        {"dataset_id": dataset_id.hex(), "problem": _find_problem(store, dataset_id)}
        for dataset_id in _list_ids(store, root)
    ]


def _find_problem(store: DatasetStore, dataset_id: Hash32) -> str | None:
    try:
        store.load(dataset_id)
    except (DatasetError, ConsensusError) as error:
        return str(error)
    return None


def _list_ids(store: DatasetStore, root: Path) -> list[Hash32]:
    if not (ids := store.list_ids()):
        raise DatasetMissing(f"{root} has no dataset")
    return ids


def _print_items(items: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print(json.dumps({"datasets": items}))
        return
    for item in items:
        for name, value in item.items():
            print(f"{name:<12} {_format_value(value)}")


def _format_value(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)
