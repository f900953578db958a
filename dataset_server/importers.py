"""Importers: from what people have to encoded splits (protocol §1), the same bytes wherever they run.

Owns the choice and the order of records and how pixels become bytes. Where the result lands is the store's.
scikit-learn and Pillow are imported only where they are used: serving and fetching need neither.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from consensus.dataset import describe_dataset, encode_split
from consensus.encoding import U16_MAX
from dataset_server.errors import ImportCode, ImportRefused
from dataset_server.info import DatasetInfo
from dataset_server.manifest import EncodedDataset

if TYPE_CHECKING:
    from PIL.Image import Image

DIGITS_TRAIN_RECORDS = 1_297
MOST_CLASSES = 256
"""A label is one byte."""
_CHANNELS_BY_MODE = {"L": 1, "RGB": 3}
# What Pillow's plugins raise for files that are broken or not what their first bytes say.
_DECODER_ERRORS = (OSError, ValueError, SyntaxError, EOFError)


def import_digits() -> EncodedDataset:
    """scikit-learn's 1,797 handwritten digits, 1×8×8: 1,297 train and 500 eval records.

    A pixel is min(255, 16·value); records are ordered by SHA-256 of their index as u32.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.minimum(255, 16 * digits.images.astype(np.int64)).astype(np.uint8)[:, np.newaxis]
    labels = digits.target.astype(np.uint8)
    order = sorted(range(len(labels)), key=_compute_shuffle_key)
    train, eval_ = (
        encode_split(labels[rows], pixels[rows])
        for rows in (order[:DIGITS_TRAIN_RECORDS], order[DIGITS_TRAIN_RECORDS:])
    )
    return EncodedDataset(describe_dataset(10, (1, 8, 8), train, eval_), train, eval_)


def get_digits_info() -> DatasetInfo:
    """The origin of the digits."""
    import sklearn

    return DatasetInfo(
        source="the digits embedded in scikit-learn",
        class_names=tuple("0123456789"),
        decoder=f"scikit-learn {sklearn.__version__}",
    )


def import_image_folder(path: Path) -> EncodedDataset:
    """The images train/CLASS/* and test/CLASS/* below `path`, classes and files in the order of their bytes.

    A label is the position of its class among those of train/. All images share one size and one mode, L (one
    channel) or RGB (three); pixels are taken as they are stored. Names that begin with a dot are passed over.
    Raises ImportRefused, RuleViolation(BAD_DATASET) for a number of classes out of bounds, OSError.
    """
    class_names = _list_classes(path)
    if len(class_names) > MOST_CLASSES:
        raise ImportRefused(
            ImportCode.WRONG_CLASSES,
            f"{path / 'train'} has {len(class_names)} classes: {MOST_CLASSES} are the most",
        )
    if stray := set(_list_names(path / "test")) - set(class_names):
        raise ImportRefused(
            ImportCode.WRONG_CLASSES,
            f"{path / 'test'} has classes that train/ has not: {', '.join(sorted(stray))}",
        )
    template = _read_template(next(_list_images(path / "train", class_names), None), path)
    train, eval_ = (_encode_folder(path / name, class_names, template) for name in ("train", "test"))
    return EncodedDataset(describe_dataset(len(class_names), template.shape, train, eval_), train, eval_)


def get_image_folder_info(path: Path) -> DatasetInfo:
    """The origin of an image folder: its name, its classes, and the decoder's versions."""
    import PIL
    from PIL import features

    libraries = [
        f"{name} {features.version(name)}"
        for name in ("libjpeg_turbo", "jpg", "zlib", "webp")
        if features.check(name)
    ]
    return DatasetInfo(
        source=f"the image folder {path.resolve().name}",
        class_names=tuple(_make_printable(name) for name in _list_classes(path)),
        decoder=f"Pillow {PIL.__version__} ({', '.join(libraries)})",
    )


@dataclass(frozen=True, slots=True)
class _Template:
    """What every image must be like: the first one."""

    path: Path
    mode: str
    width: int
    height: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return _CHANNELS_BY_MODE[self.mode], self.height, self.width


def _compute_shuffle_key(index: int) -> bytes:
    return hashlib.sha256(index.to_bytes(4, "little")).digest()


def _make_printable(name: str) -> str:
    # A file name is bytes; those that are no UTF-8 could be neither printed nor read back.
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _list_names(directory: Path) -> list[str]:
    try:
        names = [name for name in os.listdir(directory) if not name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        raise ImportRefused(ImportCode.MISSING_FILE, f"{directory} is not a directory") from None
    return sorted(names, key=os.fsencode)


def _list_classes(path: Path) -> list[str]:
    return _list_names(path / "train")


def _list_images(directory: Path, class_names: list[str]) -> Iterator[tuple[int, Path]]:
    present = set(_list_names(directory))
    for label, class_name in enumerate(class_names):
        if class_name in present:
            for name in _list_names(directory / class_name):
                yield label, directory / class_name / name


def _read_template(first: tuple[int, Path] | None, path: Path) -> _Template:
    if first is None:
        raise ImportRefused(ImportCode.MISSING_FILE, f"{path / 'train'} has no images")
    with _open_image(first[1]) as image:
        if image.mode not in _CHANNELS_BY_MODE:
            raise ImportRefused(
                ImportCode.WRONG_SHAPE, f"{first[1]} has mode {image.mode}: convert the images to L or RGB"
            )
        if max(image.size) > U16_MAX:
            raise ImportRefused(
                ImportCode.WRONG_SHAPE,
                f"{first[1]} has {image.width}x{image.height} pixels: {U16_MAX} is the most",
            )
        return _Template(first[1], image.mode, image.width, image.height)


def _encode_folder(directory: Path, class_names: list[str], template: _Template) -> bytes:
    records = [
        bytes([label]) + _read_pixels(image_path, template).tobytes()
        for label, image_path in _list_images(directory, class_names)
    ]
    return b"".join(records)


def _read_pixels(path: Path, template: _Template) -> npt.NDArray[np.uint8]:
    """The uint8[c, h, w] pixels of an image like the template."""
    with _open_image(path) as image:
        if (image.mode, image.width, image.height) != (template.mode, template.width, template.height):
            raise ImportRefused(
                ImportCode.WRONG_SHAPE,
                f"{path} is {image.mode} {image.width}x{image.height}, "
                f"but {template.path} is {template.mode} {template.width}x{template.height}",
            )
        try:
            pixels = np.asarray(image, dtype=np.uint8).reshape(template.height, template.width, -1)
        except _DECODER_ERRORS as error:
            raise ImportRefused(ImportCode.UNREADABLE_FILE, f"{path} cannot be decoded: {error}") from None
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _open_image(path: Path) -> Image:
    from PIL import Image

    try:
        image = Image.open(path)
        frames = getattr(image, "n_frames", 1)
    except (*_DECODER_ERRORS, Image.DecompressionBombError) as error:
        raise ImportRefused(ImportCode.UNREADABLE_FILE, f"{path} is not a readable image: {error}") from None
    if frames != 1:
        image.close()
        raise ImportRefused(ImportCode.WRONG_SHAPE, f"{path} has {frames} frames, not one")
    return image
