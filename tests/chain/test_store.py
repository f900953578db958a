"""Opening, refusing, upgrading and sharing the database file."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text

from chain.chain import Chain
from chain.database import check_database, upgrade_database
from chain.errors import StoreError
from chain.schema import get_newest_revision
from chain.signatures import verify_signature
from chain.store import Store, open_store
from chain.tables import metadata
from consensus.params import ChainSpec
from tests.builders import BuiltBlock, build_spec, mine_block, mine_blocks, open_chain, submit


def submit_all(chain: Chain, blocks: Sequence[BuiltBlock]) -> None:
    for block in blocks:
        submit(chain, block)


def test_refuses_another_chain(tmp_path: Path, spec: ChainSpec) -> None:
    open_store(tmp_path / "chain.sqlite3", spec).close()
    other = build_spec(name="other")
    with pytest.raises(StoreError, match=rf"holds chain tiny {spec.chain_id.hex()}, not other"):
        open_store(tmp_path / "chain.sqlite3", other)
    assert check_database(tmp_path / "chain.sqlite3", other) == ["the database holds another chain"]
    open_store(tmp_path / "chain.sqlite3", spec).close()


def test_refuses_a_second_writer(store: Store, spec: ChainSpec) -> None:
    with pytest.raises(StoreError, match="in use by another process"):
        open_store(store.path, spec)
    with pytest.raises(StoreError, match="in use by another process"):
        upgrade_database(store.path)


def test_refuses_a_missing_directory(tmp_path: Path, spec: ChainSpec) -> None:
    with pytest.raises(StoreError, match=r"cannot open .*No such file or directory"):
        open_store(tmp_path / "nowhere" / "chain.sqlite3", spec)


def test_refuses_what_is_no_database(tmp_path: Path, spec: ChainSpec) -> None:
    path = tmp_path / "chain.sqlite3"
    path.write_bytes(b"not a database at all" * 100)
    for attempt in (open_store, check_database):
        with pytest.raises(StoreError, match=r"chain\.sqlite3: file is not a database"):
            attempt(path, spec)


def test_refuses_a_newer_schema(tmp_path: Path, spec: ChainSpec) -> None:
    path = tmp_path / "chain.sqlite3"
    open_store(path, spec).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(StoreError, match="another release"):
        open_store(path, spec)
    assert check_database(path, spec) == [f"schema 9999, this release writes {get_newest_revision()}"]


def test_upgrades_an_empty_database(tmp_path: Path, spec: ChainSpec) -> None:
    path = tmp_path / "chain.sqlite3"
    with pytest.raises(StoreError, match="no database"):
        upgrade_database(path)
    sqlite3.connect(path).close()
    path.touch()
    assert upgrade_database(path) == get_newest_revision()
    open_store(path, spec).close()
    assert check_database(path, spec) == []


def test_migrations_make_the_tables(store: Store) -> None:
    with store.read() as view:
        context = MigrationContext.configure(view.connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
        made = view.connection.execute(
            text("SELECT sql FROM sqlite_master WHERE sql LIKE '%WHERE active = 1'")
        )
        assert "uq_blocks_active_height" in made.scalar_one()


def test_first_schema_cannot_be_taken_back() -> None:
    from chain.migrations.versions import r0001_first_schema

    with pytest.raises(NotImplementedError):
        r0001_first_schema.downgrade()


def test_readers_cannot_write(store: Store) -> None:
    with pytest.raises(StoreError, match="readonly database"), store.read() as view:
        view.connection.execute(text("DELETE FROM accounts"))


def test_a_snapshot_stays_what_it_was(
    store: Store, chain: Chain, spec: ChainSpec, genesis: BuiltBlock
) -> None:
    with store.read() as view:
        assert view.get_tip().height == 0
        submit(chain, mine_block(spec, genesis))
        assert view.get_tip().height == 0
        assert view.get_active_block(1) is None
    with store.read() as view:
        assert view.get_tip().height == 1


def test_full_disk_is_one_clear_error(
    store: Store, chain: Chain, spec: ChainSpec, genesis: BuiltBlock
) -> None:
    first, second = mine_blocks(spec, genesis, 2)
    submit(chain, first)
    with store.write() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
    with pytest.raises(StoreError) as caught:
        submit_all(chain, [second, *mine_blocks(spec, second, 200)])
    assert str(caught.value) == f"{store.path}: database or disk is full"
    with store.read() as view:
        assert view.get_tip() == chain.tip
    assert check_database(store.path, spec) == []
    with store.write() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count=100000")
    refused = [second, *mine_blocks(spec, second, 200)][chain.tip.height - 1]
    assert not chain.is_condemned(refused.block_id)
    assert submit(chain, refused).status == "active"
    assert check_database(store.path, spec) == []


def test_locked_database_is_one_clear_error(tmp_path: Path, spec: ChainSpec, genesis: BuiltBlock) -> None:
    path = tmp_path / "chain.sqlite3"
    store = open_store(path, spec, busy_timeout_seconds=0.01)
    chain = Chain(store, spec, verify_signature)
    block = mine_block(spec, genesis)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="database is locked"):
        submit(chain, block)
    # Readers are served all the same.
    assert not chain.is_known(block.block_id)
    other.rollback()
    other.close()
    assert submit(chain, block).status == "active"
    store.close()


def test_readers_see_whole_blocks_while_one_writes(
    store: Store, chain: Chain, spec: ChainSpec, genesis: BuiltBlock
) -> None:
    """Two branches overtake each other: every snapshot holds one of them, with its own accounts."""
    left = mine_blocks(spec, genesis, 10, miner=b"\x01" * 32)
    right = mine_blocks(spec, genesis, 10, miner=b"\x02" * 32)
    ended, failures = threading.Event(), []
    seen: set[int] = set()

    def read() -> None:
        try:
            while not ended.is_set():
                with store.read() as view:
                    tip = view.get_tip()
                    miners = {record.header.miner for record in view.list_blocks(None, 20)[:-1]}
                    paid = sum(view.get_account(key * 32).balance for key in (b"\x01", b"\x02"))
                assert len(miners) <= 1
                assert paid == max(0, tip.height - spec.params.maturity) * spec.params.initial_reward
                seen.add(tip.height)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for first, second in zip(left, right, strict=True):
        for block in (first, second) if first.height % 2 else (second, first):
            submit(chain, block)
    ended.set()
    for thread in threads:
        thread.join(timeout=30)
    assert failures == []
    assert seen


def test_threads_commit_one_after_the_other(
    store: Store, chain: Chain, spec: ChainSpec, genesis: BuiltBlock
) -> None:
    siblings = [mine_block(spec, genesis, nonce=nonce) for nonce in range(12)]
    statuses: list[str] = []
    threads = [
        threading.Thread(
            target=lambda some=siblings[n::4]: statuses.extend(submit(chain, b).status for b in some)
        )
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert sorted(statuses) == ["active", *["side"] * 11]
    with store.read() as view:
        children = view.get_children(spec.chain_id)
    assert [record.arrival for record in children] == list(range(1, 13))
    assert children[0] == chain.tip
    assert check_database(store.path, spec) == []


def test_survives_a_restart(tmp_path: Path, spec: ChainSpec, genesis: BuiltBlock) -> None:
    store, chain = open_chain(tmp_path, spec)
    for block in mine_blocks(spec, genesis, 4):
        submit(chain, block)
    tip = chain.tip
    store.close()
    store, chain = open_chain(tmp_path, spec)
    assert chain.tip == tip
    store.close()
