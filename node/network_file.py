"""The network of a block as a safetensors file: the useful product of the work."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from consensus.block import Header, Witness
from consensus.evaluation import rebuild_network
from consensus.network import IntegerNetwork
from consensus.task import Rung, Task


def encode_network_file(task: Task, rung: Rung, header: Header, witness: Witness) -> bytes:
    """The network that a verified witness describes, its frozen weights recomputed.

    Tensors: `layers.I.weight` int8[out, in(, 3, 3)], `layers.I.multiplier` uint32[out] and `layers.I.offset`
    int64[out] of every normalised layer, `layers.I.bias` int32[classes] of the last. The file's metadata tell
    the shape, the block and both counts; inference is protocol §2. The order of the metadata differs between
    processes, so the bytes of the file identify nothing.
    """
    network = rebuild_network(task, rung, header, witness)
    metadata = {
        "format": "freezenet-network-1",
        "network": json.dumps(asdict(task.network)),
        "block_id": header.block_id.hex(),
        "task_id": task.task_id.hex(),
        "train_correct": str(witness.train_correct),
        "eval_correct": str(witness.eval_correct),
    }
    return save(_name_tensors(network), metadata)


def _name_tensors(network: IntegerNetwork) -> dict[str, npt.NDArray[np.generic]]:
    tensors: dict[str, npt.NDArray[np.generic]] = {}
    for index, layer in enumerate(network.spec.layers):
        name = f"layers.{index}"
        tensors[f"{name}.weight"] = network.weights[layer.start : layer.stop].reshape(layer.shape)
        if layer.kind == "logits":
            tensors[f"{name}.bias"] = network.bias
        else:
            tensors[f"{name}.multiplier"] = network.multipliers[index]
            tensors[f"{name}.offset"] = network.offsets[index]
    return tensors
