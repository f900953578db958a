"""The commands about nodes, wallets and chains, against a running node."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from chain.spec_file import write_chain_spec
from consensus.address import decode_address, encode_address
from dataset_server.store import DatasetStore
from node.cli import chain, db, wallet
from node.cli import node as node_commands
from node.cli.errors import CommandError, NodeUnreachable, UsageError
from node.settings import check_url
from tests.builders import (
    ALICE,
    BOB,
    INITIAL_BALANCE,
    MINER,
    build_genesis,
    build_header,
    build_spec,
    build_transfer,
    finish_block,
    get_rung,
    mine_block,
    open_chain,
    solve_witness,
    submit,
)
from tests.node.rest.conftest import TestNode, put_dataset, serve

NOWHERE = "http://127.0.0.1:1"


def run(app: typer.Typer, *words: str | Path) -> str:
    """What a command prints on stdout. Raises its CommandError."""
    result = CliRunner().invoke(app, list(map(str, words)))
    if isinstance(result.exception, CommandError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def run_json(app: typer.Typer, *words: str | Path) -> Any:
    """The one line of JSON that a command prints."""
    output = run(app, *words, "--json")
    assert output.count("\n") == 1
    return json.loads(output)


@dataclass(frozen=True, slots=True)
class Served:
    """A running node at a URL."""

    node: TestNode
    url: str

    async def run(self, app: typer.Typer, *words: str | Path) -> str:
        """As `run`, beside the node."""
        return await asyncio.to_thread(run, app, *words, "--node", self.url)

    async def run_json(self, app: typer.Typer, *words: str | Path) -> Any:
        """As `run_json`, beside the node."""
        return await asyncio.to_thread(run_json, app, *words, "--node", self.url)


@pytest.fixture
async def served(node: TestNode) -> AsyncIterator[Served]:
    async with serve(node) as client:
        yield Served(node, str(client.base_url))


@pytest.fixture
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREEZENET_PASSWORD", "secret")


# node


async def test_status_tells_the_chain(served: Served) -> None:
    await served.node.mine(2)
    assert (await served.run_json(node_commands.app, "status"))["height"] == 2
    text = await served.run(node_commands.app, "status")
    assert f"tip              {served.node.tip.block_id.hex()}" in text
    assert "dataset          ready" in text


def test_rejects_a_node_that_does_not_answer() -> None:
    with pytest.raises(NodeUnreachable, match=f"{NOWHERE}.*FREEZENET_NODE names another") as caught:
        run(node_commands.app, "status", "--node", NOWHERE)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    "url", ["nonsense", "ftp://host", "http://[", "http://host:port", "http://host:99999", "http://a..b"]
)
def test_rejects_a_url_that_is_none(url: str) -> None:
    with pytest.raises(NodeUnreachable):
        run(node_commands.app, "status", "--node", url)


@pytest.mark.parametrize("url", ["http://host", "https://host:8645/behind/a/proxy", "http://[::1]:1"])
def test_a_url_of_a_host_is_one(url: str) -> None:
    check_url(url)


def test_init_can_be_repeated(tmp_path: Path) -> None:
    spec = build_spec()
    write_chain_spec(tmp_path / "chain.json", spec)
    words = ("init", "--dir", tmp_path / "node", "--chain", tmp_path / "chain.json")
    first, second = run_json(node_commands.app, *words), run_json(node_commands.app, *words)
    assert first == second
    assert first["chain_id"] == spec.chain_id.hex()
    assert run(db.app, "check", "--dir", tmp_path / "node").endswith(" is sound\n")


def test_rejects_options_that_make_no_settings(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^peers: .ftp"):
        run(node_commands.app, "run", "--dir", tmp_path, "--peer", "ftp://host")


# db


def test_check_tells_what_is_wrong(tmp_path: Path) -> None:
    spec = build_spec()
    write_chain_spec(tmp_path / "chain.json", spec)
    run(node_commands.app, "init", "--dir", tmp_path, "--chain", tmp_path / "chain.json")
    assert run_json(db.app, "check", "--dir", tmp_path) == {"problems": []}
    assert run_json(db.app, "upgrade", "--dir", tmp_path)["revision"]
    write_chain_spec(tmp_path / "chain.json", build_spec(name="other"))
    with pytest.raises(CommandError) as caught:
        run(db.app, "check", "--dir", tmp_path)
    assert caught.value.exit_code == 1


async def test_a_backup_beside_a_running_node_is_sound(served: Served, tmp_path: Path) -> None:
    await served.node.mine(2)
    directory, copy = served.node.runtime.settings.dir, tmp_path / "copy" / "chain.sqlite3"
    copy.parent.mkdir()
    words = ("backup", copy, "--dir", directory)
    assert await asyncio.to_thread(run_json, db.app, *words) == {"file": str(copy)}
    write_chain_spec(copy.with_name("chain.json"), served.node.spec)
    assert run(db.app, "check", "--dir", copy.parent).endswith(" is sound\n")
    with pytest.raises(CommandError, match="exists; a backup overwrites nothing"):
        await asyncio.to_thread(run, db.app, *words)


def test_rejects_a_directory_without_a_database(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"chain\.json"):
        run(db.app, "check", "--dir", tmp_path)


# wallet


@pytest.mark.usefixtures("password")
async def test_a_coin_is_sent(served: Served, tmp_path: Path) -> None:
    wallets = tmp_path / "wallets"
    made = run_json(wallet.app, "new", "--wallets", wallets)
    assert Path(made["file"]).stat().st_mode & 0o777 == 0o600
    funding = build_transfer(served.node.spec, ALICE, decode_address(made["address"]), 1_000)
    await served.node.mine(1, [funding])
    balance = await served.run_json(wallet.app, "balance", "--wallets", wallets)
    assert (balance["address"], balance["spendable"]) == (made["address"], "1000")
    for nonce in ("0", "1"):
        sent = await served.run_json(
            wallet.app, "send", BOB.address, "30", "--fee", "2", "--wallets", wallets
        )
        assert (sent["nonce"], sent["status"]) == (nonce, "pending")
    await served.node.mine(1, served.node.runtime.mempool.list(None, 2)[0])
    assert (await served.node.get(f"/v1/addresses/{BOB.address}"))["spendable"] == str(INITIAL_BALANCE + 60)


@pytest.mark.usefixtures("password")
async def test_rejects_a_transfer_that_is_not_covered(served: Served, tmp_path: Path) -> None:
    run(wallet.app, "new", "--wallet", tmp_path / "key.json")
    with pytest.raises(CommandError, match="insufficient-balance"):
        await served.run(wallet.app, "send", BOB.address, "1", "--wallet", tmp_path / "key.json")


@pytest.mark.usefixtures("password")
async def test_rejects_a_recipient_that_is_no_address(served: Served, tmp_path: Path) -> None:
    run(wallet.app, "new", "--wallet", tmp_path / "key.json")
    with pytest.raises(CommandError, match="bad-address"):
        await served.run(wallet.app, "send", "fz1nonsense", "1", "--wallet", tmp_path / "key.json")


@pytest.mark.usefixtures("password")
async def test_rejects_a_wrong_password(served: Served, tmp_path: Path) -> None:
    run(wallet.app, "new", "--wallet", tmp_path / "key.json")
    (tmp_path / "password").write_text("other\nsecond line is ignored\n")
    words = ("send", BOB.address, "1", "--wallet", tmp_path / "key.json")
    with pytest.raises(CommandError, match="wrong password"):
        await served.run(wallet.app, *words, "--password-file", tmp_path / "password")


@pytest.mark.usefixtures("password")
def test_keys_are_listed_and_chosen(tmp_path: Path) -> None:
    assert run_json(wallet.app, "list", "--wallets", tmp_path) == []
    addresses = [run_json(wallet.app, "new", name, "--wallets", tmp_path)["address"] for name in ("a", "b")]
    listed = run_json(wallet.app, "list", "--wallets", tmp_path)
    assert [entry["address"] for entry in listed] == addresses
    assert run(wallet.app, "list", "--wallets", tmp_path).splitlines()[1].startswith(addresses[1])
    with pytest.raises(UsageError, match="holds 2 keys"):
        run(wallet.app, "balance", "--wallets", tmp_path)


@pytest.mark.usefixtures("password")
def test_rejects_overwriting_a_key(tmp_path: Path) -> None:
    run(wallet.app, "new", "--wallets", tmp_path)
    before = (tmp_path / "default.json").read_bytes()
    with pytest.raises(CommandError, match="never overwritten"):
        run(wallet.app, "new", "--wallets", tmp_path)
    assert (tmp_path / "default.json").read_bytes() == before


def test_rejects_a_new_key_without_a_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FREEZENET_PASSWORD", raising=False)
    with pytest.raises(UsageError, match="--password-file"):
        run(wallet.app, "new", "--wallets", tmp_path / "wallets")
    assert list(tmp_path.iterdir()) == []


def test_rejects_a_password_that_is_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "password").write_bytes(b"\xff\xfe\n")
    words = ("new", "--wallet", tmp_path / "key.json")
    with pytest.raises(CommandError, match=r"password in .* is not encoded in UTF-8"):
        run(wallet.app, *words, "--password-file", tmp_path / "password")
    monkeypatch.setenv("FREEZENET_PASSWORD", "\udcff")
    with pytest.raises(CommandError, match="the password is not encoded in UTF-8"):
        run(wallet.app, *words)
    assert not (tmp_path / "key.json").exists()


# chain


async def test_tip_block_and_transaction_are_told(served: Served) -> None:
    signed = build_transfer(served.node.spec, ALICE, BOB.public, 77)
    await served.node.mine(2, [signed])
    tip = await served.run_json(chain.app, "tip")
    assert (tip["height"], tip["status"], tip["confirmations"]) == (2, "active", 0)
    block = await served.run_json(chain.app, "block", "1")
    assert (block["confirmations"], block["miner"]) == (1, encode_address(MINER))
    assert "required min train correct  7" in await served.run(chain.app, "block", block["id"])
    transaction = await served.run_json(chain.app, "tx", signed.tx_id.hex())
    assert (transaction["amount"], transaction["block"]["height"]) == ("77", 1)
    assert f"block          1 {block['id']}" in await served.run(chain.app, "tx", signed.tx_id.hex())


async def test_rejects_an_unknown_block(served: Served) -> None:
    with pytest.raises(CommandError, match="not-found"):
        await served.run(chain.app, "block", "9")


def fill_directory(directory: Path, *, is_false: bool) -> None:
    """A node's directory with two blocks under real witnesses, and perhaps a third under a dummy one."""
    spec = build_spec()
    directory.mkdir()
    write_chain_spec(directory / "chain.json", spec)
    put_dataset(DatasetStore(directory / "datasets"))
    store, opened = open_chain(directory, spec)
    parent = build_genesis(spec)
    for _ in range(2):
        header = build_header(spec, parent)
        witness = solve_witness(spec, header, get_rung(spec, parent, header))
        parent = finish_block(spec, parent, header, (), witness)
        submit(opened, parent)
    if is_false:
        submit(opened, mine_block(spec, parent))
    store.close()


def test_a_directory_is_verified_with_the_real_evaluator(tmp_path: Path) -> None:
    fill_directory(tmp_path / "node", is_false=False)
    answer = run_json(chain.app, "verify", "--dir", tmp_path / "node")
    assert (answer["height"], answer["valid"]) == (2, True)


def test_rejects_a_directory_with_a_false_witness(tmp_path: Path) -> None:
    fill_directory(tmp_path / "node", is_false=True)
    with pytest.raises(CommandError, match="block 3 is not valid: wrong-train-count"):
        run(chain.app, "verify", "--dir", tmp_path / "node")


async def test_a_node_is_verified_over_its_interface(served: Served) -> None:
    node = served.node
    put_dataset(node.runtime.dataset.store)
    node.verifier.check = lambda *_: None  # type: ignore[method-assign]
    header = build_header(node.spec, node.tip)
    witness = solve_witness(node.spec, header, get_rung(node.spec, node.tip, header))
    node.tip = finish_block(node.spec, node.tip, header, (), witness)
    assert (await node.submit(node.tip)).status_code == 201
    answer = await served.run_json(chain.app, "verify")
    assert (answer["height"], answer["tip"]) == (1, node.tip.block_id.hex())
    await node.mine()
    with pytest.raises(CommandError, match="block 2 is not valid"):
        await served.run(chain.app, "verify")
