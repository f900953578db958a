"""CIFAR-10 from its binary files, or from a copy of it as a folder of images (protocol §1).

A record of the binary files is a record of the protocol: a label and three planes of pixels. Nothing is
unpickled: the archive that torchvision's own class would load holds pickles, so the binary one that lies
beside it is downloaded by torchvision's downloader, and six members are read out of it.
"""

from __future__ import annotations

import hashlib
import tarfile
import tempfile
from pathlib import Path

import numpy as np

from consensus.dataset import describe_dataset
from dataset_server.errors import ImportCode, ImportRefused
from dataset_server.importers import get_image_folder_info, import_image_folder
from dataset_server.info import DatasetInfo
from dataset_server.manifest import EncodedDataset

CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SHAPE = (3, 32, 32)
RECORD_BYTES = 1 + 3 * 32 * 32
FILE_RECORDS = 10_000
TRAIN_FILES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
EVAL_FILES = ("test_batch.bin",)
ARCHIVE_SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
"""Of the archive of the binary files."""
_ARCHIVE_FOLDER = "cifar-10-batches-bin"


def import_cifar10(source: Path | None, *, file_records: int = FILE_RECORDS) -> EncodedDataset:
    """The six binary files of a directory, or those downloaded; where it has train/ and test/, their images.

    Records are in the order of the files. Raises ImportRefused, RuleViolation(BAD_DATASET), OSError.
    """
    if source is None:
        with tempfile.TemporaryDirectory(prefix="freezenet-import-") as directory:
            return import_cifar10(_download(Path(directory)), file_records=file_records)
    if is_image_folder(source):
        return _import_folder(source)
    train, eval_ = (
        b"".join(_read_records(source / name, file_records) for name in names)
        for names in (TRAIN_FILES, EVAL_FILES)
    )
    return EncodedDataset(describe_dataset(len(CLASS_NAMES), SHAPE, train, eval_), train, eval_)


def get_cifar10_info(source: Path | None) -> DatasetInfo:
    """The origin of CIFAR-10, imported from there."""
    if source is not None and is_image_folder(source):
        return get_image_folder_info(source)
    return DatasetInfo("the binary files of CIFAR-10", CLASS_NAMES, "none: stored pixels")


def is_image_folder(source: Path) -> bool:
    """Whether a directory holds splits of images rather than binary files."""
    return (source / "train").is_dir() and not (source / TRAIN_FILES[0]).exists()


def _import_folder(source: Path) -> EncodedDataset:
    dataset = import_image_folder(source)
    spec = dataset.spec
    if (spec.c, spec.h, spec.w) != SHAPE:
        raise ImportRefused(ImportCode.WRONG_SHAPE, f"{source} has images of {spec.c}x{spec.h}x{spec.w}")
    names = get_image_folder_info(source).class_names
    if names != CLASS_NAMES:
        raise ImportRefused(
            ImportCode.WRONG_CLASSES, f"{source} has the classes {', '.join(names)}: not those of CIFAR-10"
        )
    return dataset


def _read_records(path: Path, records: int) -> bytes:
    expected_bytes = records * RECORD_BYTES
    try:
        with path.open("rb") as file:
            data = file.read(expected_bytes + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise ImportRefused(ImportCode.MISSING_FILE, f"{path.parent} has no {path.name}") from None
    if len(data) != expected_bytes:
        told = "more" if len(data) > expected_bytes else f"{len(data):,}"
        raise ImportRefused(
            ImportCode.WRONG_LENGTH,
            f"{path.name} has {told} bytes, not {records:,} records of {RECORD_BYTES:,}",
        )
    highest = int(np.frombuffer(data, np.uint8)[::RECORD_BYTES].max())
    if highest >= len(CLASS_NAMES):
        raise ImportRefused(
            ImportCode.WRONG_CLASSES, f"{path.name} has label {highest}: {len(CLASS_NAMES) - 1} is the most"
        )
    return data


def _download(directory: Path) -> Path:
    """`directory` with the six binary files of the archive, whose digest was compared."""
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import download_url

    try:
        download_url(CIFAR10.url.replace("-python", "-binary"), str(directory), "cifar-10.tar.gz")
    except (RuntimeError, OSError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise ImportRefused(ImportCode.DOWNLOAD_FAILED, f"{reason}; name the files with --source") from None
    archive = directory / "cifar-10.tar.gz"
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != ARCHIVE_SHA256:
        raise ImportRefused(
            ImportCode.DOWNLOAD_FAILED, f"the archive has digest {digest}, not {ARCHIVE_SHA256}"
        )
    _unpack(archive, directory)
    return directory


def _unpack(archive: Path, directory: Path) -> None:
    with tarfile.open(archive) as tar:
        for name in (*TRAIN_FILES, *EVAL_FILES):
            member = tar.extractfile(f"{_ARCHIVE_FOLDER}/{name}")
            assert member is not None, "the digest says that it is a regular file"
            (directory / name).write_bytes(member.read())
