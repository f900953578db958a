"""`freezenet wallet`: keys in password-protected files, balances and transfers."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from node.api_client import DEFAULT_URL
from node.cli.errors import CommandError, UsageError
from node.cli.terminal import JsonOption, NodeOption, failing_in_one_line, print_answer, print_json

app = typer.Typer(help="Keys, balances and transfers.", no_args_is_help=True)
PASSWORD_VARIABLE = "FREEZENET_PASSWORD"

WalletOption = Annotated[
    Path | None,
    typer.Option("--wallet", metavar="FILE", help="The key's file; by default the only one in --wallets."),
]
WalletsOption = Annotated[
    Path, typer.Option("--wallets", envvar="FREEZENET_WALLETS", metavar="DIR", help="Where keys are kept.")
]
PasswordFileOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help=f"The password is its first line; else ${PASSWORD_VARIABLE}, else a prompt."
    ),
]
DEFAULT_WALLETS = Path("~/.freezenet/wallets")


@app.command("new")
def new_command(
    name: Annotated[str, typer.Argument(help="Name of the file in --wallets.")] = "default",
    wallet: Annotated[
        Path | None, typer.Option("--wallet", metavar="FILE", help="Another file instead.")
    ] = None,
    wallets: WalletsOption = DEFAULT_WALLETS,
    password_file: PasswordFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a new key. Whoever loses its file or its password loses what it holds."""
    from chain.keystore import create_keystore

    path = (wallet or wallets / f"{name}.json").expanduser()
    with failing_in_one_line():
        if path.exists():
            raise CommandError(f"{path} exists; a key is never overwritten")
        password = _read_password(password_file, is_new=True)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        key = create_keystore(path, password)
    print_answer({"address": key.address, "file": str(path)}, as_json)


@app.command("list")
def list_command(wallets: WalletsOption = DEFAULT_WALLETS, as_json: JsonOption = False) -> None:
    """The keys in a directory."""
    from chain.keystore import read_keystore_address

    with failing_in_one_line():
        found = {path: read_keystore_address(path) for path in _list_files(wallets)}
    if as_json:
        print_json([{"address": address, "file": str(path)} for path, address in found.items()])
    for path, address in found.items() if not as_json else ():
        typer.echo(f"{address}  {path}")


@app.command("balance")
def balance_command(
    address: Annotated[str | None, typer.Argument(help="An address; by default that of the key.")] = None,
    wallet: WalletOption = None,
    wallets: WalletsOption = DEFAULT_WALLETS,
    node: NodeOption = DEFAULT_URL,
    as_json: JsonOption = False,
) -> None:
    """What an address holds, spendable and not yet mature."""
    from chain.keystore import read_keystore_address
    from node.api_client import ApiClient

    with failing_in_one_line(), ApiClient(node) as client:
        asked = address or read_keystore_address(_choose_file(wallet, wallets))
        answer = client.get(f"/v1/addresses/{asked}")
    print_answer(answer, as_json)


@app.command("send")
def send_command(
    recipient: Annotated[str, typer.Argument(help="Address to credit.")],
    amount: Annotated[int, typer.Argument(min=0, max=2**64 - 1, help="In the smallest unit.")],
    fee: Annotated[int, typer.Option(min=0, max=2**64 - 1, help="For the miner of the block.")] = 0,
    nonce: Annotated[
        int | None,
        typer.Option(min=0, max=2**64 - 2, help="By default the next one that the node expects."),
    ] = None,
    wallet: WalletOption = None,
    wallets: WalletsOption = DEFAULT_WALLETS,
    password_file: PasswordFileOption = None,
    node: NodeOption = DEFAULT_URL,
    as_json: JsonOption = False,
) -> None:
    """Sign a transfer and hand it to a node."""
    from chain.keystore import open_keystore
    from consensus.address import decode_address
    from consensus.transaction import TRANSFER_VERSION, Transfer, encode_signed
    from node.api_client import ApiClient

    with failing_in_one_line(), ApiClient(node) as client:
        credited = decode_address(recipient)
        chain_id = client.fetch_spec().chain_id
        path = _choose_file(wallet, wallets)
        key = open_keystore(path, _read_password(password_file, is_new=False))
        if nonce is None:
            nonce = int(client.get(f"/v1/addresses/{key.address}")["next_nonce"])
        transfer = Transfer(TRANSFER_VERSION, chain_id, key.public, credited, amount, fee, nonce)
        answer = client.post_bytes("/v1/transactions", encode_signed(key.sign_transfer(transfer)))
    print_answer({"id": answer["id"], "nonce": str(nonce), "status": answer["status"]}, as_json)


def _choose_file(wallet: Path | None, wallets: Path) -> Path:
    if wallet is not None:
        return wallet.expanduser()
    files = _list_files(wallets)
    if len(files) != 1:
        raise UsageError(f"{wallets} holds {len(files)} keys: name one with --wallet FILE")
    return files[0]


def _list_files(wallets: Path) -> list[Path]:
    return sorted(wallets.expanduser().glob("*.json"))


def _read_password(file: Path | None, *, is_new: bool) -> str:
    """Raises CommandError for one that is no text."""
    password = _ask_password(file, is_new=is_new)
    try:
        password.encode("utf-8")
    except UnicodeEncodeError:
        raise CommandError(f"the password{f' in {file}' if file else ''} is not encoded in UTF-8") from None
    return password


def _ask_password(file: Path | None, *, is_new: bool) -> str:
    """Bytes that are no UTF-8 come as lone surrogates, as Python reads a variable and a terminal."""
    if file is not None:
        return file.read_text(encoding="utf-8", errors="surrogateescape").partition("\n")[0]
    if PASSWORD_VARIABLE in os.environ:
        return os.environ[PASSWORD_VARIABLE]
    if not sys.stdin.isatty():
        raise UsageError(f"no terminal to ask for the password: use --password-file or ${PASSWORD_VARIABLE}")
    password: str = typer.prompt("Password", hide_input=True, confirmation_prompt=is_new, err=True)
    return password
