"""The pages: the chain, blocks, transfers, addresses and peers, and the search that leads to them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response

from node.explorer.rendering import PageRoute, render
from node.routes import addresses, blocks, chain, transactions
from node.routes.access import Cursor, Network, Runtime
from node.routes.addresses import Key
from node.routes.answers import describe_block, describe_block_status
from node.routes.search import LONGEST, find
from node.routes.stats import get_stats
from node.routes.transactions import TransactionId

router = APIRouter(route_class=PageRoute)

_GLANCE = 15
_PAGE = 50


@router.get("/")
def show_chain(request: Request, runtime: Runtime, network: Network) -> Response:
    """What the chain is at, what the next block must meet, and the newest blocks."""
    return render(
        request,
        "chain",
        state=chain.get_chain(runtime, network),
        stats=get_stats(runtime),
        blocks=blocks.list_blocks(runtime, limit=_GLANCE).items,
        transfers=transactions.list_mempool(runtime, limit=_GLANCE).items,
        dataset=runtime.spec.dataset,
    )


@router.get("/blocks")
def list_blocks(request: Request, runtime: Runtime, cursor: Cursor = None) -> Response:
    """The active chain, newest first."""
    page = blocks.list_blocks(runtime, cursor, _PAGE)
    return render(request, "blocks", blocks=page.items, next=page.next, dataset=runtime.spec.dataset)


@router.get("/blocks/{block}")
def show_block(
    request: Request, runtime: Runtime, block: blocks.Reference, cursor: Cursor = None
) -> Response:
    """All that is known of a block, and its transfers."""
    with runtime.store.read() as view:
        record = blocks.find_block(view, block)
        status = describe_block_status(view, record)
        page = blocks.page_transfers(view, record, cursor, _PAGE)
    return render(
        request,
        "block",
        block=describe_block(runtime.spec, record),
        status=status,
        transfers=page.items,
        next=page.next,
        dataset=runtime.spec.dataset,
    )


@router.get("/transactions/{transaction_id}")
def show_transaction(request: Request, runtime: Runtime, transaction_id: TransactionId) -> Response:
    """A transfer of the active chain or of the mempool."""
    return render(request, "transaction", transfer=transactions.get_transaction(runtime, transaction_id))


@router.get("/mempool")
def list_pending(request: Request, runtime: Runtime, cursor: Cursor = None) -> Response:
    """Transfers that wait for a block."""
    page = transactions.list_mempool(runtime, cursor, _PAGE)
    return render(request, "mempool", transfers=page.items, next=page.next)


@router.get("/addresses/{address}")
def show_address(
    request: Request, runtime: Runtime, key: Key, cursor: Cursor = None, blocks_cursor: Cursor = None
) -> Response:
    """What an address holds, its transfers and the blocks that it mined."""
    transfers = addresses.list_address_transactions(runtime, key, cursor, _PAGE)
    mined = addresses.list_address_blocks(runtime, key, blocks_cursor, _GLANCE)
    return render(
        request,
        "address",
        account=addresses.get_address(runtime, key),
        cursor=cursor,
        blocks_cursor=blocks_cursor,
        transfers=transfers,
        mined=mined,
        dataset=runtime.spec.dataset,
    )


@router.get("/peers")
async def list_peers(request: Request, runtime: Runtime) -> Response:
    """Who this node talks to."""
    return render(request, "peers", peers=runtime.network.list_peers())


@router.get("/search")
def search(request: Request, runtime: Runtime, q: Annotated[str, Query(max_length=LONGEST)] = "") -> Response:
    """The page of what a height, a hash or an address names; a page that says so where it names nothing."""
    results = find(runtime, q)
    if not results:
        return render(request, "nothing", 404, question=q)
    return RedirectResponse(results[0].url.removeprefix("/v1"), 303)
