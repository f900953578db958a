"""CIFAR-10's binary files and its copies as images: records to the byte, and what is refused."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from consensus.dataset import decode_dataset
from dataset_server import cifar10
from dataset_server.cifar10 import CLASS_NAMES, get_cifar10_info, import_cifar10
from dataset_server.errors import ImportCode, ImportRefused
from tests.dataset_server.samples import write_cifar10

RECORDS = 30
SAMPLE_ID = "0ac2e33b91d925e34b580b71346c2e98e0a95dce51cac5e06731a21f064d9c1b"
BATCH = "data_batch_2.bin"
Change = Callable[[bytes], bytes]


def write_folder(root: Path, names: tuple[str, ...] = CLASS_NAMES, size: tuple[int, int] = (32, 32)) -> None:
    for split in ("train", "test"):
        for number, name in enumerate(names):
            (root / split / name).mkdir(parents=True)
            Image.new("RGB", size, (number, 0, 0)).save(root / split / name / "1.png")


def test_imports_the_binary_files_as_they_are(tmp_path: Path) -> None:
    write_cifar10(tmp_path, RECORDS)
    encoded = import_cifar10(tmp_path, file_records=RECORDS)
    assert encoded.spec.dataset_id.hex() == SAMPLE_ID
    assert encoded.eval == (tmp_path / "test_batch.bin").read_bytes()
    assert encoded.train == 5 * encoded.eval
    dataset = decode_dataset(*encoded)
    assert dataset.train.pixels.shape == (5 * RECORDS, 3, 32, 32)
    assert get_cifar10_info(tmp_path).class_names == CLASS_NAMES


def test_imports_a_folder_of_images(tmp_path: Path) -> None:
    write_folder(tmp_path)
    dataset = decode_dataset(*import_cifar10(tmp_path))
    assert dataset.train.labels.tolist() == list(range(10))
    assert dataset.train.pixels[:, 0, 5, 5].tolist() == list(range(10))
    assert get_cifar10_info(tmp_path).decoder.startswith("Pillow ")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda data: data[:-1], ImportCode.WRONG_LENGTH),
        (lambda data: data[:-3_073], ImportCode.WRONG_LENGTH),
        (lambda data: data + bytes(3_073), ImportCode.WRONG_LENGTH),
        (lambda data: b"", ImportCode.WRONG_LENGTH),
        (lambda data: data[:3_073] + b"\x0a" + data[3_074:], ImportCode.WRONG_CLASSES),
    ],
)
def test_rejects_files_that_are_wrong(tmp_path: Path, change: Change, code: ImportCode) -> None:
    write_cifar10(tmp_path, RECORDS)
    (tmp_path / BATCH).write_bytes(change((tmp_path / BATCH).read_bytes()))
    with pytest.raises(ImportRefused, match=BATCH) as refusal:
        import_cifar10(tmp_path, file_records=RECORDS)
    assert refusal.value.code is code


def test_rejects_a_missing_file(tmp_path: Path) -> None:
    write_cifar10(tmp_path, RECORDS)
    (tmp_path / "test_batch.bin").unlink()
    with pytest.raises(ImportRefused, match=r"has no test_batch\.bin"):
        import_cifar10(tmp_path, file_records=RECORDS)
    with pytest.raises(ImportRefused, match=r"nowhere has no data_batch_1\.bin"):
        import_cifar10(tmp_path / "nowhere")


def test_rejects_another_folder_of_images(tmp_path: Path) -> None:
    write_folder(tmp_path / "classes", ("cat", "dog"))
    with pytest.raises(ImportRefused, match="not those of CIFAR-10"):
        import_cifar10(tmp_path / "classes")
    write_folder(tmp_path / "size", size=(16, 32))
    with pytest.raises(ImportRefused, match="3x32x16"):
        import_cifar10(tmp_path / "size")


def test_downloads_the_binary_archive_beside_the_pickled_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small archive and a disk in place of a network."""
    write_cifar10(tmp_path / "cifar-10-batches-bin", RECORDS)
    archive = tmp_path / "cifar-10-binary.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "cifar-10-batches-bin", "cifar-10-batches-bin")

    def download(url: str, root: str, filename: str) -> None:
        shutil.copy(tmp_path / url.rpartition("/")[2], Path(root, filename))

    monkeypatch.setattr("torchvision.datasets.utils.download_url", download)
    with pytest.raises(ImportRefused, match="download-failed: the archive has digest"):
        import_cifar10(None)
    monkeypatch.setattr(cifar10, "ARCHIVE_SHA256", hashlib.sha256(archive.read_bytes()).hexdigest())
    assert import_cifar10(None, file_records=RECORDS).spec.dataset_id.hex() == SAMPLE_ID
    archive.unlink()
    with pytest.raises(ImportRefused, match=r"^download-failed: .*name the files with --source$"):
        import_cifar10(None)
