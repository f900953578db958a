"""Where a dataset came from, for people: kept beside its chunks, proved by nothing, decided on by nothing."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class DatasetInfo:
    """The origin of a dataset that was imported here; a fetched one has none."""

    source: str
    """What was imported."""
    class_names: tuple[str, ...]
    """The name of each label, in label order."""
    decoder: str
    """What turned the source into pixels, with its versions: other versions may give another dataset."""


def encode_info(info: DatasetInfo) -> bytes:
    """The info as indented JSON."""
    return (json.dumps(asdict(info), indent=2) + "\n").encode("ascii")


def decode_info(data: bytes) -> DatasetInfo:
    """The info in `data`. Raises ValueError if it is not one."""
    try:
        fields = json.loads(data)
        names = tuple(str(name) for name in fields["class_names"])
        return DatasetInfo(str(fields["source"]), names, str(fields["decoder"]))
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"not the info of a dataset: {error!r}") from None
