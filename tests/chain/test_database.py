"""`check_database` finds every kind of damage that a file can carry and still open."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from chain.database import back_up_database, check_database
from chain.errors import StoreError
from chain.store import open_store
from consensus.params import ChainSpec
from tests.builders import (
    ALICE,
    BOB,
    BuiltBlock,
    build_transfer,
    build_witness,
    get_rung,
    mine_block,
    mine_blocks,
    open_chain,
    submit,
)


@pytest.fixture
def database(tmp_path: Path, spec: ChainSpec, genesis: BuiltBlock) -> Path:
    """A closed database: six active blocks with transfers, a twin witness, and a side branch."""
    first = mine_block(spec, genesis, [build_transfer(spec, ALICE, BOB.public)])
    twin = build_witness(spec, get_rung(spec, genesis, first.header), b"ok twin")
    second = mine_block(
        spec, first, [build_transfer(spec, BOB, ALICE.public, fee=3)], parent_witness=twin.witness_id
    )
    rest = mine_blocks(spec, second, 4)
    side = [mine_block(spec, first, nonce=1)]
    side.append(mine_block(spec, side[0], [build_transfer(spec, ALICE, BOB.public, nonce=1)]))
    store, chain = open_chain(tmp_path, spec)
    submit(chain, first)
    submit(chain, second, twin)
    for block in (*rest, *side):
        submit(chain, block)
    store.close()
    return tmp_path / "chain.sqlite3"


def damage(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def test_finds_nothing_wrong(database: Path, spec: ChainSpec) -> None:
    assert check_database(database, spec) == []


DAMAGES = {
    "header": "UPDATE blocks SET header = zeroblob(190) WHERE arrival = 3",
    "short header": "UPDATE blocks SET header = x'00' WHERE arrival = 3",
    "id": "UPDATE blocks SET block_id = randomblob(32) WHERE arrival = 3",
    "parent": "UPDATE blocks SET parent = randomblob(32) WHERE arrival = 3",
    "miner": "UPDATE blocks SET miner = randomblob(32) WHERE arrival = 3",
    "work": "UPDATE blocks SET work = x'0000000000000001' WHERE arrival = 3",
    "chain work": "UPDATE blocks SET chain_work = zeroblob(16) WHERE arrival = 3",
    "fees": "UPDATE blocks SET fees = zeroblob(8) WHERE arrival = 2",
    "count": "UPDATE blocks SET transaction_count = 2 WHERE arrival = 2",
    "genesis": "UPDATE blocks SET work = x'0000000000000001' WHERE arrival = 0",
    "arrival": "UPDATE blocks SET arrival = 99 WHERE arrival = 8",
    "served witness": "UPDATE blocks SET witness_id = randomblob(32) WHERE arrival = 6",
    "other witness": "UPDATE blocks SET witness_id = (SELECT witness_id FROM witnesses WHERE block = 1"
    " AND witness_id != (SELECT witness_id FROM blocks WHERE arrival = 1)) WHERE arrival = 1",
    "witness": "UPDATE witnesses SET witness = CAST(x'0900000003000000' || substr(witness, 9) AS BLOB)"
    " WHERE block = 6",
    "text for bytes": "UPDATE witnesses SET witness = 'text' WHERE block = 6",
    "malformed witness": "UPDATE witnesses SET witness = x'00' WHERE block = 6",
    "claim": "UPDATE witnesses SET train_correct = 24 WHERE block = 6",
    "missing witness": "DELETE FROM witnesses WHERE block = 5",
    "missing transfer": "DELETE FROM transactions WHERE block = 2",
    "transfer": "UPDATE transactions SET signed = zeroblob(186) WHERE block = 2",
    "sender": "UPDATE transactions SET sender = randomblob(32) WHERE block = 2",
    "change": "UPDATE account_changes SET balance_after = zeroblob(8) WHERE block = 2",
    "missing change": "DELETE FROM account_changes WHERE block = 2",
    "side change": "UPDATE account_changes SET height = 9 WHERE block = 8",
    "account": "UPDATE accounts SET balance = zeroblob(8)",
    "foreign account": f"INSERT INTO accounts VALUES (randomblob(32), x'{1:016x}', x'{0:016x}')",
    "no block": "DELETE FROM blocks",
    "tip": "UPDATE blocks SET active = 0 WHERE height = 6",
    "gap": "UPDATE blocks SET active = 0 WHERE height = 3",
    "foreign row": "INSERT INTO witnesses VALUES (77, zeroblob(32), 0, 0, NULL)",
}


@pytest.mark.parametrize("name", DAMAGES)
def test_finds_damage(database: Path, spec: ChainSpec, name: str) -> None:
    damage(database, DAMAGES[name])
    assert check_database(database, spec) != []


def test_finds_a_forged_history(database: Path, spec: ChainSpec) -> None:
    """Changes and accounts that agree with each other, but not with genesis."""
    key = ALICE.public.hex()
    changes = read_rows(
        database, f"SELECT block, balance_before, balance_after FROM account_changes WHERE key = x'{key}'"
    )
    for block, before, after in changes:
        damage(
            database,
            f"UPDATE account_changes SET balance_before = {raise_by_one(before)},"
            f" balance_after = {raise_by_one(after)} WHERE key = x'{key}' AND block = {block!r}",
        )
    ((balance,),) = read_rows(database, f"SELECT balance FROM accounts WHERE key = x'{key}'")
    damage(database, f"UPDATE accounts SET balance = {raise_by_one(balance)} WHERE key = x'{key}'")
    assert any("is not what its last change left" in line for line in check_database(database, spec))


def raise_by_one(balance: bytes) -> str:
    return f"x'{int.from_bytes(balance, 'big') + 1:016x}'"


def read_rows(path: Path, query: str) -> list[tuple[bytes, ...]]:
    connection = sqlite3.connect(path)
    rows = connection.execute(query).fetchall()
    connection.close()
    return rows


def test_finds_a_damaged_file(database: Path, spec: ChainSpec) -> None:
    data = bytearray(database.read_bytes())
    page = int.from_bytes(data[16:18], "big")
    for start in range(3 * page, len(data), 5 * page):
        data[start : start + 64] = b"\xff" * 64
    database.write_bytes(data)
    try:
        problems = check_database(database, spec)
    except StoreError as error:
        problems = [str(error)]
    assert any("malformed" in line or "damaged" in line for line in problems)


def test_refuses_a_missing_file(tmp_path: Path, spec: ChainSpec) -> None:
    with pytest.raises(StoreError, match="unable to open database file"):
        check_database(tmp_path / "none.sqlite3", spec)
    assert list(tmp_path.iterdir()) == []


def test_reads_while_a_node_writes(tmp_path: Path, spec: ChainSpec, genesis: BuiltBlock) -> None:
    store, chain = open_chain(tmp_path, spec)
    submit(chain, mine_block(spec, genesis))
    assert check_database(store.path, spec) == []
    store.close()


def test_a_backup_of_a_running_node_is_its_database_at_that_moment(
    tmp_path: Path, spec: ChainSpec, genesis: BuiltBlock
) -> None:
    store, chain = open_chain(tmp_path, spec)
    first = mine_block(spec, genesis, [build_transfer(spec, ALICE, BOB.public)])
    submit(chain, first)
    (tmp_path / "copy.part").write_bytes(b"left by a kill")
    back_up_database(store.path, tmp_path / "copy")
    submit(chain, mine_block(spec, first))
    store.close()
    assert not (tmp_path / "copy.part").exists()
    assert check_database(tmp_path / "copy", spec) == []
    copy = open_store(tmp_path / "copy", spec)
    with copy.read() as view:
        assert view.get_tip().block_id == first.header.block_id
    copy.close()


def test_a_backup_overwrites_nothing(database: Path, tmp_path: Path) -> None:
    (tmp_path / "copy").touch()
    with pytest.raises(StoreError, match="copy exists"):
        back_up_database(database, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b""


@pytest.mark.parametrize(("source", "target"), [("none", "copy"), ("chain.sqlite3", "none/copy")])
def test_refuses_a_backup_from_nothing_or_to_nowhere(
    database: Path, tmp_path: Path, source: str, target: str
) -> None:
    before = sorted(tmp_path.iterdir())
    with pytest.raises(StoreError, match="was not copied to"):
        back_up_database(tmp_path / source, tmp_path / target)
    assert sorted(tmp_path.iterdir()) == before


def test_a_damaged_file_leaves_no_backup(database: Path, tmp_path: Path) -> None:
    database.write_bytes(b"no database at all" * 100)
    with pytest.raises(StoreError, match="was not copied to"):
        back_up_database(database, tmp_path / "copy")
    assert not list(tmp_path.glob("copy*"))
