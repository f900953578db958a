"""Real nodes for the acceptance tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.acceptance.node_process import NodeProcess, prepare_directory
from tests.acceptance.scene import Scene, build_scene


@pytest.fixture(scope="session")
def scene() -> Scene:
    return build_scene()


@pytest.fixture(scope="module")
def lone_node(tmp_path_factory: pytest.TempPathFactory, scene: Scene) -> Iterator[NodeProcess]:
    """A node without peers that was handed the scene's blocks over HTTP."""
    directory = prepare_directory(tmp_path_factory.mktemp("lone") / "node", scene.spec)
    with NodeProcess(directory) as node:
        node.start()
        node.wait_until_evaluating()
        hashes = {node.compute_tables_hash()}
        for built in (scene.first, scene.tip):
            assert node.post_block(built.raw).status_code == 201
            hashes.add(node.compute_tables_hash())
        assert len(hashes) == 3, "the hash sees every block"
        yield node
