"""Fashion-MNIST from its four idx files, plain or gzipped (protocol §1).

Parsed here, byte by byte: nothing is unpickled. Where no directory is named, torchvision downloads the files;
it knows their address and digests, and is imported for that alone.
"""

from __future__ import annotations

import gzip
import tempfile
import zlib
from pathlib import Path
from typing import IO, cast

import numpy as np
import numpy.typing as npt

from consensus.dataset import describe_dataset, encode_split
from dataset_server.errors import ImportCode, ImportRefused
from dataset_server.info import DatasetInfo
from dataset_server.manifest import EncodedDataset

CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
TRAIN_RECORDS = 60_000
EVAL_RECORDS = 10_000
SIDE = 28
"""Height and width of an image in pixels."""
# An idx header: 0, 0, 8 for unsigned bytes, the number of dimensions, each dimension as a big-endian u32.
_UNSIGNED_BYTES = 8


def import_fashion_mnist(
    source: Path | None, *, train_records: int = TRAIN_RECORDS, eval_records: int = EVAL_RECORDS
) -> EncodedDataset:
    """The idx files of a directory, or those that torchvision downloads; records in the order of the files.

    Raises ImportRefused, OSError.
    """
    if source is None:
        with tempfile.TemporaryDirectory(prefix="freezenet-import-") as directory:
            files = _download(Path(directory))
            return import_fashion_mnist(files, train_records=train_records, eval_records=eval_records)
    train, eval_ = (
        encode_split(
            _read_labels(source / f"{prefix}-labels-idx1-ubyte", records),
            _read_idx(source / f"{prefix}-images-idx3-ubyte", (records, SIDE, SIDE)),
        )
        for prefix, records in (("train", train_records), ("t10k", eval_records))
    )
    return EncodedDataset(describe_dataset(len(CLASS_NAMES), (1, SIDE, SIDE), train, eval_), train, eval_)


def get_fashion_mnist_info() -> DatasetInfo:
    """The origin of Fashion-MNIST."""
    return DatasetInfo("the idx files of Fashion-MNIST", CLASS_NAMES, "none: stored pixels")


def _download(directory: Path) -> Path:
    """The directory of the files, downloaded below `directory` and compared with torchvision's digests."""
    from torchvision.datasets import FashionMNIST

    try:
        FashionMNIST(str(directory), download=True)
    except (RuntimeError, OSError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise ImportRefused(ImportCode.DOWNLOAD_FAILED, f"{reason}; name the files with --source") from None
    return directory / "FashionMNIST" / "raw"


def _read_labels(path: Path, records: int) -> npt.NDArray[np.uint8]:
    labels = _read_idx(path, (records,))
    if int(labels.max()) >= len(CLASS_NAMES):
        raise ImportRefused(
            ImportCode.WRONG_CLASSES,
            f"{path.name} has label {labels.max()}: {len(CLASS_NAMES) - 1} is the most",
        )
    return labels


def _read_idx(path: Path, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """uint8[shape] of the idx file of that name, or of that name and .gz."""
    header = bytes([0, 0, _UNSIGNED_BYTES, len(shape)]) + b"".join(side.to_bytes(4, "big") for side in shape)
    expected_bytes = len(header) + int(np.prod(shape))
    # A byte more than it should have: enough to see that it is too long, and no bomb fits.
    data = _read_start(path, expected_bytes + 1)
    _check_header(path, data[: len(header)], header)
    if len(data) != expected_bytes:
        told = "more" if len(data) > expected_bytes else f"{len(data):,}"
        raise ImportRefused(
            ImportCode.WRONG_LENGTH, f"{path.name} has {told} bytes, not {expected_bytes:,} of {shape}"
        )
    return np.frombuffer(data, np.uint8, offset=len(header)).reshape(shape)


def _check_header(path: Path, actual: bytes, expected: bytes) -> None:
    if actual[:4] != expected[:4]:
        raise ImportRefused(
            ImportCode.BAD_HEADER,
            f"{path.name} begins with {actual[:4].hex()}, not {expected[:4].hex()}: no such idx file",
        )
    if actual != expected:
        sides = [int.from_bytes(part[i : i + 4], "big") for part in (actual,) for i in range(4, len(part), 4)]
        raise ImportRefused(ImportCode.WRONG_SHAPE, f"{path.name} says {sides}, not those of Fashion-MNIST")


def _read_start(path: Path, most_bytes: int) -> bytes:
    zipped = path.with_name(f"{path.name}.gz")
    try:
        if path.exists():
            with path.open("rb") as file:
                return file.read(most_bytes)
        with cast("IO[bytes]", gzip.open(zipped)) as file:
            return file.read(most_bytes)
    except FileNotFoundError:
        raise ImportRefused(
            ImportCode.MISSING_FILE, f"{path.parent} has neither {path.name} nor {zipped.name}"
        ) from None
    except NotADirectoryError:
        raise ImportRefused(ImportCode.MISSING_FILE, f"{path.parent} is not a directory") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ImportRefused(ImportCode.UNREADABLE_FILE, f"{zipped.name} is damaged: {error}") from None
