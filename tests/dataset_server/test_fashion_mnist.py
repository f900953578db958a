"""Fashion-MNIST's idx files: their records to the byte, and every way in which they can be wrong."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest

from consensus.dataset import Dataset, decode_dataset
from dataset_server.errors import ImportCode, ImportRefused
from dataset_server.fashion_mnist import get_fashion_mnist_info, import_fashion_mnist
from tests.dataset_server.samples import build_pattern, write_fashion_mnist

TRAIN, EVAL = 40, 20
SAMPLE_ID = "168565a2d6ce280fc3e3c583f763b9731ee374d57a6b323020854369bce46aab"
IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
Spoil = Callable[[Path], object]


def read(source: Path) -> Dataset:
    return decode_dataset(*import_fashion_mnist(source, train_records=TRAIN, eval_records=EVAL))


def edit(name: str, change: Callable[[bytes], bytes]) -> Spoil:
    def spoil(source: Path) -> None:
        (source / name).write_bytes(change((source / name).read_bytes()))

    return spoil


def test_imports_plain_and_gzipped_files(tmp_path: Path) -> None:
    write_fashion_mnist(tmp_path, TRAIN, EVAL)
    dataset = read(tmp_path)
    assert dataset.spec.dataset_id.hex() == SAMPLE_ID
    assert (dataset.spec.c, dataset.spec.h, dataset.spec.w, dataset.spec.classes) == (1, 28, 28, 10)
    for split, records in ((dataset.train, TRAIN), (dataset.eval, EVAL)):
        labels, pixels = build_pattern(records, 784)
        assert np.array_equal(split.labels, labels)
        assert np.array_equal(split.pixels.reshape(records, 784), pixels)
    assert get_fashion_mnist_info().class_names[9] == "Ankle boot"


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda source: (source / LABELS).unlink(), ImportCode.MISSING_FILE),
        (edit(IMAGES, lambda data: b"\x80" + data[1:]), ImportCode.BAD_HEADER),
        (edit(IMAGES, lambda data: data[:2] + b"\x09" + data[3:]), ImportCode.BAD_HEADER),
        (edit(IMAGES, lambda data: b""), ImportCode.BAD_HEADER),
        (edit(LABELS, lambda data: data[:7] + b"\x29" + data[8:]), ImportCode.WRONG_SHAPE),
        (edit(IMAGES, lambda data: data[:10]), ImportCode.WRONG_SHAPE),
        (edit(IMAGES, lambda data: data[:11] + b"\x1d" + data[12:]), ImportCode.WRONG_SHAPE),
        (edit(IMAGES, lambda data: data[:-1]), ImportCode.WRONG_LENGTH),
        (edit(LABELS, lambda data: data + b"\x00"), ImportCode.WRONG_LENGTH),
        (edit(LABELS, lambda data: data[:-1] + b"\x0a"), ImportCode.WRONG_CLASSES),
        (edit("t10k-labels-idx1-ubyte.gz", lambda data: data[:-4]), ImportCode.UNREADABLE_FILE),
        (edit("t10k-labels-idx1-ubyte.gz", lambda data: b"no gzip"), ImportCode.UNREADABLE_FILE),
        (
            edit(
                "t10k-labels-idx1-ubyte.gz", lambda data: gzip.compress(gzip.decompress(data) + bytes(10**6))
            ),
            ImportCode.WRONG_LENGTH,
        ),
    ],
)
def test_rejects_files_that_are_wrong(tmp_path: Path, spoil: Spoil, code: ImportCode) -> None:
    write_fashion_mnist(tmp_path, TRAIN, EVAL)
    spoil(tmp_path)
    with pytest.raises(ImportRefused) as refusal:
        read(tmp_path)
    assert refusal.value.code is code
    assert len(str(refusal.value).splitlines()) == 1


def test_rejects_a_directory_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for source in (tmp_path / "nowhere", tmp_path / "file"):
        with pytest.raises(ImportRefused) as refusal:
            read(source)
        assert refusal.value.code is ImportCode.MISSING_FILE


def test_rejects_another_number_of_records(tmp_path: Path) -> None:
    write_fashion_mnist(tmp_path, TRAIN, EVAL)
    with pytest.raises(ImportRefused, match="not those of Fashion-MNIST"):
        import_fashion_mnist(tmp_path)


def test_without_a_source_the_files_are_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision's class is asked for the four files; here it has a disk in place of a network."""

    def download(root: str, **_: Any) -> None:
        write_fashion_mnist(Path(root, "FashionMNIST", "raw"), TRAIN, EVAL)

    monkeypatch.setattr("torchvision.datasets.FashionMNIST", download)
    dataset = import_fashion_mnist(None, train_records=TRAIN, eval_records=EVAL)
    assert dataset.spec.dataset_id.hex() == SAMPLE_ID


def test_tells_a_download_that_fails_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise URLError("no network")

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", fail)
    with pytest.raises(ImportRefused, match=r"^download-failed: .*--source") as refusal:
        import_fashion_mnist(None)
    assert refusal.value.code is ImportCode.DOWNLOAD_FAILED
    assert len(str(refusal.value).splitlines()) == 1
