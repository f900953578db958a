"""A fresh store with its chain for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chain.chain import Chain
from chain.mempool import Mempool
from chain.signatures import verify_signature
from chain.store import Store
from consensus.params import ChainSpec
from tests.builders import BuiltBlock, build_genesis, build_spec, open_chain


@pytest.fixture(scope="session")
def spec() -> ChainSpec:
    return build_spec()


@pytest.fixture(scope="session")
def genesis(spec: ChainSpec) -> BuiltBlock:
    return build_genesis(spec)


@pytest.fixture
def opened(tmp_path: Path, spec: ChainSpec) -> Iterator[tuple[Store, Chain]]:
    store, chain = open_chain(tmp_path, spec)
    yield store, chain
    store.close()


@pytest.fixture
def store(opened: tuple[Store, Chain]) -> Store:
    return opened[0]


@pytest.fixture
def chain(opened: tuple[Store, Chain]) -> Chain:
    return opened[1]


@pytest.fixture
def mempool(store: Store, chain: Chain) -> Mempool:
    return Mempool(store, chain, verify_signature)
