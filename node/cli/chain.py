"""`freezenet chain`: look at a node's chain, and verify it anew."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from node.api_client import DEFAULT_URL
from node.cli.errors import CommandError
from node.cli.terminal import (
    JsonOption,
    NodeOption,
    build_settings,
    failing_in_one_line,
    print_answer,
    print_fields,
    print_json,
)

if TYPE_CHECKING:
    from node.chain_verification import BlockSource

app = typer.Typer(help="Look at the chain and verify it.", no_args_is_help=True)


@app.command("tip")
def tip_command(node: NodeOption = DEFAULT_URL, as_json: JsonOption = False) -> None:
    """The newest block of the active chain."""
    _print_block(node, "tip", as_json)


@app.command("block")
def block_command(
    block: Annotated[str, typer.Argument(help="A height, a block id or `tip`.")],
    node: NodeOption = DEFAULT_URL,
    as_json: JsonOption = False,
) -> None:
    """A block and how it stands."""
    _print_block(node, block, as_json)


@app.command("tx")
def tx_command(
    transaction: Annotated[str, typer.Argument(help="A transaction's id.")],
    node: NodeOption = DEFAULT_URL,
    as_json: JsonOption = False,
) -> None:
    """A transaction and where it stands."""
    from node.api_client import ApiClient

    with failing_in_one_line(), ApiClient(node) as client:
        answer = client.get(f"/v1/transactions/{transaction}")
    if not as_json and answer["block"] is not None:
        answer["block"] = f"{answer['block']['height']} {answer['block']['id']}"
    print_answer(answer, as_json)


@app.command("verify")
def verify_command(
    node: NodeOption = DEFAULT_URL,
    directory: Annotated[
        Path | None, typer.Option("--dir", metavar="DIR", help="Read a stopped node's directory instead.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Verify every block from genesis up and evaluate each network anew; exit code 1 at a false one."""
    with failing_in_one_line(), _open_source(node, directory) as source:
        answer = _verify(source)
    print_answer(answer, as_json)


def _verify(source: BlockSource) -> dict[str, Any]:
    from consensus.errors import ConsensusError
    from node.chain_verification import PrunedBlock, verify_chain
    from training.evaluator import ExactWorkVerifier

    verifier = ExactWorkVerifier(source.load_dataset())
    height, tip = 0, source.spec.chain_id
    try:
        for record in verify_chain(source, verifier, int(time.time())):
            height, tip = record.height, record.block_id
            typer.echo(f"block {height} {tip.hex()} is valid", err=True)
    except ConsensusError as error:
        raise CommandError(f"block {height + 1} is not valid: {error}") from error
    except PrunedBlock as error:
        raise CommandError(str(error)) from error
    return {"chain_id": source.spec.chain_id.hex(), "height": height, "tip": tip.hex(), "valid": True}


@contextmanager
def _open_source(node: str, directory: Path | None) -> Iterator[BlockSource]:
    from node.api_client import ApiClient
    from node.chain_verification import NodeSource, open_directory

    if directory is not None:
        with open_directory(build_settings(dir=directory)) as source:
            yield source
        return
    with ApiClient(node) as client:
        yield NodeSource(client)


def _print_block(node: str, reference: str, as_json: bool) -> None:
    from node.api_client import ApiClient

    with failing_in_one_line(), ApiClient(node) as client:
        block = client.get(f"/v1/blocks/{reference}")
        standing = client.get(f"/v1/blocks/{block['id']}/status")
    if as_json:
        print_json(block | {"status": standing["status"], "confirmations": standing["confirmations"]})
        return
    rung = block.pop("rung")
    if rung is not None:
        block |= {f"required_{name}": value for name, value in rung.items()}
    print_fields(block | {"status": standing["status"], "confirmations": standing["confirmations"]})
