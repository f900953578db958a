"""Importers: the digits to the byte, and folders of images that are or are not alike."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from consensus.dataset import decode_dataset
from consensus.errors import Code, RuleViolation
from dataset_server.errors import ImportRefused
from dataset_server.importers import (
    get_digits_info,
    get_image_folder_info,
    import_digits,
    import_image_folder,
)

DIGITS_ID = "7e8c6234a4d1870a4759be0cc69edf7f7dff5151adbf9a2959e701dc80c52d80"


def _save(path: Path, mode: str = "L", size: tuple[int, int] = (3, 2), fill: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, fill).save(path)


def _build_folder(root: Path, mode: str = "L") -> Path:
    for split, offset in (("train", 0), ("test", 100)):
        for number, name in enumerate(("a/1.png", "a/2.png", "b/1.png")):
            _save(root / split / name, mode, fill=offset + number)
    return root


def test_digits_are_pinned() -> None:
    dataset = import_digits()
    assert dataset.spec.dataset_id.hex() == DIGITS_ID
    decoded = decode_dataset(*dataset)
    assert decoded.train.pixels.shape == (1_297, 1, 8, 8)
    assert decoded.eval.pixels.shape == (500, 1, 8, 8)
    assert int(decoded.train.pixels.max()) == 255
    assert len(get_digits_info().class_names) == 10


def test_imports_a_folder(tmp_path: Path) -> None:
    dataset = decode_dataset(*import_image_folder(_build_folder(tmp_path / "pictures")))
    assert (dataset.spec.c, dataset.spec.h, dataset.spec.w, dataset.spec.classes) == (1, 2, 3, 2)
    assert dataset.train.labels.tolist() == [0, 0, 1]
    assert dataset.train.pixels[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert dataset.eval.pixels[:, 0, 1, 2].tolist() == [100, 101, 102]


def test_tells_where_a_folder_came_from(tmp_path: Path) -> None:
    info = get_image_folder_info(_build_folder(tmp_path / "pictures"))
    assert info.source == "the image folder pictures"
    assert info.class_names == ("a", "b")
    assert info.decoder.startswith("Pillow ")
    assert "zlib" in info.decoder


def test_pixels_are_channel_row_column(tmp_path: Path) -> None:
    root = _build_folder(tmp_path, "RGB")
    pixels = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    Image.fromarray(pixels).save(root / "train/a/1.png")
    dataset = decode_dataset(*import_image_folder(root))
    assert np.array_equal(dataset.train.pixels[0], pixels.transpose(2, 0, 1))


def test_classes_and_files_are_in_byte_order(tmp_path: Path) -> None:
    class_names = [b"B", b"a", "é".encode(), b"\xff"]
    for split in ("train", "test"):
        for number, name in enumerate(class_names):
            for file in range(2):
                # Surrogates would sort 0xff (U+DCFF) behind, but also other names before: bytes decide.
                _save(tmp_path / split / os.fsdecode(name) / f"{file}.png", fill=10 * number + file)
    dataset = decode_dataset(*import_image_folder(tmp_path))
    assert dataset.train.pixels[:, 0, 0, 0].tolist() == [0, 1, 10, 11, 20, 21, 30, 31]
    assert get_image_folder_info(tmp_path).class_names == ("B", "a", "é", "\\xff")


def test_passes_over_hidden_names_and_absent_test_classes(tmp_path: Path) -> None:
    root = _build_folder(tmp_path)
    (root / "train/.thumbnails").mkdir()
    (root / "train/a/.DS_Store").touch()
    (root / "test/b/1.png").unlink()
    (root / "test/b").rmdir()
    assert import_image_folder(root).spec.n_eval == 2


def test_decodes_jpeg(tmp_path: Path) -> None:
    root = _build_folder(tmp_path)
    _save(root / "train/a/3.jpg", fill=128)
    assert import_image_folder(root).spec.n_train == 4


def test_rejects_a_missing_split(tmp_path: Path) -> None:
    _save(tmp_path / "train/a/1.png")
    with pytest.raises(ImportRefused, match="test is not a directory"):
        import_image_folder(tmp_path)


def test_rejects_a_file_among_the_classes(tmp_path: Path) -> None:
    root = _build_folder(tmp_path)
    (root / "train/c.txt").touch()
    with pytest.raises(ImportRefused, match=r"c\.txt is not a directory"):
        import_image_folder(root)


def test_rejects_no_images(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "test").mkdir()
    with pytest.raises(ImportRefused, match="has no images"):
        import_image_folder(tmp_path)


def test_rejects_a_class_that_only_test_has(tmp_path: Path) -> None:
    _save(_build_folder(tmp_path) / "test/c/1.png")
    with pytest.raises(ImportRefused, match="classes that train/ has not: c"):
        import_image_folder(tmp_path)


def test_rejects_too_many_classes(tmp_path: Path) -> None:
    root = _build_folder(tmp_path)
    for number in range(255):
        (root / f"train/c{number}").mkdir()
    with pytest.raises(ImportRefused, match="257 classes"):
        import_image_folder(root)


def test_rejects_a_single_class(tmp_path: Path) -> None:
    for split in ("train", "test"):
        _save(tmp_path / split / "a" / "1.png")
    with pytest.raises(RuleViolation) as refusal:
        import_image_folder(tmp_path)
    assert refusal.value.code is Code.BAD_DATASET


@pytest.mark.parametrize("size", [(2, 3), (3, 3)])
def test_rejects_another_size(tmp_path: Path, size: tuple[int, int]) -> None:
    _save(_build_folder(tmp_path) / "test/b/2.png", size=size)
    with pytest.raises(ImportRefused, match=r"2\.png is L \dx3, but .*1\.png is L 3x2"):
        import_image_folder(tmp_path)


def test_rejects_another_mode(tmp_path: Path) -> None:
    _save(_build_folder(tmp_path) / "train/b/2.png", mode="RGB")
    with pytest.raises(ImportRefused, match="is RGB 3x2, but"):
        import_image_folder(tmp_path)


@pytest.mark.parametrize("mode", ["P", "RGBA", "1", "I;16"])
def test_rejects_a_mode_that_is_not_bytes(tmp_path: Path, mode: str) -> None:
    _build_folder(tmp_path, mode)
    with pytest.raises(ImportRefused, match="convert the images to L or RGB"):
        import_image_folder(tmp_path)


def test_rejects_a_side_that_is_too_long(tmp_path: Path) -> None:
    _save(_build_folder(tmp_path) / "train/a/0.png", size=(65_536, 1))
    with pytest.raises(ImportRefused, match="65535 is the most"):
        import_image_folder(tmp_path)


def test_rejects_what_is_no_image(tmp_path: Path) -> None:
    (_build_folder(tmp_path) / "train/a/notes.txt").write_text("hello")
    with pytest.raises(ImportRefused, match=r"notes\.txt is not a readable image"):
        import_image_folder(tmp_path)


def test_rejects_a_truncated_image(tmp_path: Path) -> None:
    path = _build_folder(tmp_path) / "train/b/1.png"
    noise = np.random.default_rng(0).integers(0, 256, (2, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:-26])
    with pytest.raises(ImportRefused, match=r"1\.png cannot be decoded"):
        import_image_folder(tmp_path)


def test_rejects_an_animation(tmp_path: Path) -> None:
    path = _build_folder(tmp_path) / "train/b/2.gif"
    frames = [Image.new("L", (3, 2), fill) for fill in (0, 255)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    with pytest.raises(ImportRefused, match="2 frames"):
        import_image_folder(tmp_path)
