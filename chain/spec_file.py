"""chain.json: everything that fixes a chain, as the hex of its canonical bytes."""

from __future__ import annotations

import json
from pathlib import Path

from chain.errors import StoreError
from consensus.dataset import decode_dataset_spec, encode_dataset_spec
from consensus.errors import ConsensusError
from consensus.params import ChainSpec, decode_params


def read_chain_spec(path: Path) -> ChainSpec:
    """The checked chain described by the file. Raises StoreError where there is none."""
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        params = decode_params(bytes.fromhex(fields["params_hex"]))
        dataset = decode_dataset_spec(bytes.fromhex(fields["dataset_hex"]))
        return ChainSpec.build(params, dataset)
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, ConsensusError) as error:
        raise StoreError(f"{path} does not describe a chain: {error}") from error


def write_chain_spec(path: Path, spec: ChainSpec) -> None:
    """Write the file in one step, so that no reader ever sees a part of it. Raises StoreError."""
    fields = {
        "params_hex": spec.params_bytes.hex(),
        "dataset_hex": encode_dataset_spec(spec.dataset).hex(),
    }
    draft = path.with_name(f"{path.name}.new")
    try:
        draft.write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror}") from error
