"""The pages for a browser: what they say, where their links lead, and that they follow the chain."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html import unescape
from html.parser import HTMLParser
from types import SimpleNamespace
from urllib.parse import urljoin, urlsplit

import pytest
from playwright.async_api import Page as BrowserPage
from playwright.async_api import async_playwright, expect

from consensus.address import encode_address
from consensus.transaction import encode_signed
from node.explorer.rendering import write_number, write_share, write_time
from tests.builders import ALICE, BOB, CAROL, MINER, build_transfer, mine_block
from tests.node.rest.conftest import OCTETS, StartNode, TestNode, serve


class Page(HTMLParser):
    """The links of a page and the elements that are open at its end."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.nexts: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value for name, value in attrs if name in ("href", "src") and value]
        if ("rel", "next") in attrs:
            self.nexts.append(self.links[-1])
        if tag not in ("meta", "link", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


async def read(node: TestNode, path: str, status: int = 200) -> str:
    """The HTML at a path, well-formed."""
    response = await node.client.get(path)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert Page(response.text).open == []
    return response.text


async def fill(node: TestNode) -> None:
    """Blocks, a side block, transfers that are mined and that wait."""
    transfers = [build_transfer(node.spec, ALICE, BOB.public, nonce=nonce, fee=nonce) for nonce in range(4)]
    await node.mine(3, transfers[:3])
    side = mine_block(node.spec, node.tip, [transfers[3]], nonce=7)
    await node.mine(1)
    await node.submit(side)
    node.runtime.mempool.add(transfers[3])


async def test_every_link_leads_somewhere(node: TestNode) -> None:
    await fill(node)
    seen, waiting = {"/"}, ["/"]
    while waiting:
        path = waiting.pop()
        response = await node.client.get(path)
        assert response.status_code == 200, path
        if not response.headers["content-type"].startswith("text/html") or path == "/docs":
            continue
        found = {urljoin(path, link) for link in Page(response.text).links}
        assert all(not urlsplit(link).netloc for link in found), found
        waiting += found - seen
        seen |= found
    script = await node.client.get("/static/explorer.js")
    assert (script.headers["cache-control"], script.headers["x-content-type-options"]) == (
        "no-cache",
        "nosniff",
    )
    kinds = {"blocks", "transactions", "addresses", "mempool", "peers", "static", "v1"}
    assert kinds <= {urlsplit(link).path.split("/")[1] for link in seen}


async def test_chain_page_tells_the_newest_blocks_and_what_comes_next(node: TestNode) -> None:
    await fill(node)
    page, state = await read(node, "/"), await node.get("/v1/chain")
    tip = await node.get("/v1/blocks/tip")
    assert f'<dd id="height"><a href="/blocks/{tip["id"]}">{tip["height"]}</a></dd>' in page
    assert f"{int(state['rung']['work']):,} M" in page
    assert page.count(encode_address(MINER)) >= 2 * tip["height"]
    assert "genesis" in page


async def test_block_page_tells_counts_rung_and_transfers(node: TestNode) -> None:
    await fill(node)
    block = await node.get("/v1/blocks/1")
    page = await read(node, "/blocks/1")
    assert page == await read(node, f"/blocks/{block['id']}")
    assert "on the active chain" in page
    total = node.spec.dataset.n_train
    assert f"{block['train_correct']} <small>({write_share(block['train_correct'], total)})</small>" in page
    transfers = (await node.get("/v1/blocks/1/transactions"))["items"]
    assert len(transfers) == 3
    assert all(f'href="/transactions/{transfer["id"]}"' in page for transfer in transfers)
    assert f'href="/v1/blocks/{block["id"]}/model"' in page
    tips = (await node.get("/v1/chain/tips"))["items"]
    side = await read(node, f"/blocks/{tips[1]['id']}")
    assert "on a side branch" in side
    assert f">{build_transfer(node.spec, ALICE, BOB.public, nonce=3, fee=3).tx_id.hex()}</span>" in side
    genesis = await read(node, "/blocks/0")
    assert "Miner" not in genesis.split("<h2>")[0]
    assert "/model" not in genesis


async def test_transfer_pages_tell_mined_from_pending(node: TestNode) -> None:
    await fill(node)
    (waiting,) = (await node.get("/v1/mempool"))["items"]
    assert "waits for a block" in await read(node, f"/transactions/{waiting['id']}")
    assert waiting["id"] in await read(node, "/mempool")
    await node.mine(1, [build_transfer(node.spec, ALICE, BOB.public, nonce=3, fee=3)])
    page = await read(node, f"/transactions/{waiting['id']}")
    assert f'"/blocks/{node.tip.block_id.hex()}">{node.tip.header.height}</a>' in page
    assert ">0 confirmations</span>" in page
    assert waiting["id"] not in await read(node, "/mempool")


async def test_address_page_tells_balance_transfers_and_blocks(node: TestNode) -> None:
    await fill(node)
    address = encode_address(MINER)
    account = await node.get(f"/v1/addresses/{address}")
    page = await read(node, f"/addresses/{address}")
    for name in ("balance", "spendable", "immature"):
        assert f"<dd>{int(account[name]):,}</dd>" in page
    assert page.count('<td class="n"><a href="/blocks/') == 4
    bob = await read(node, f"/addresses/{encode_address(BOB.public)}")
    assert (bob.count("/transactions/"), bob.count('<td class="n"><a href="/blocks/')) == (3, 3)


async def test_long_lists_come_in_pages(node: TestNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.explorer.pages._PAGE", 2)
    monkeypatch.setattr("node.explorer.pages._GLANCE", 2)
    await fill(node)
    node.runtime.mempool.add(build_transfer(node.spec, BOB, ALICE.public))
    node.runtime.mempool.add(build_transfer(node.spec, BOB, ALICE.public, nonce=1))
    alice, miner = (f"/addresses/{encode_address(key)}" for key in (ALICE.public, MINER))
    lists = [("/blocks", "Older blocks", "blocks", 5), ("/blocks/1", "More transfers", "transactions", 3)]
    lists += [(alice, "Older transfers", "transactions", 3), (miner, "Older blocks", "blocks", 4)]
    for path, text, kind, count in [*lists, ("/mempool", "More", "transactions", 3)]:
        found: list[str] = []
        link: str | None = path
        while link:
            page = await read(node, link)
            rows = "".join(page.split("<tbody>")[1:]).split("<tr>")[1:]
            found += [re.findall(rf'href="/{kind}/([0-9a-f]+)"', row)[0] for row in rows]
            nexts = Page(page).nexts
            assert len(nexts) == page.count(f">{text}</a>")
            link = unescape(urljoin(path, nexts[0])) if nexts else None
        assert len(found) == len(set(found)) == count, path


async def test_paging_one_list_of_an_address_leaves_the_other(
    node: TestNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.explorer.pages._PAGE", 1)
    monkeypatch.setattr("node.explorer.pages._GLANCE", 1)
    transfers = [build_transfer(node.spec, ALICE, BOB.public, nonce=nonce) for nonce in range(3)]
    await node.mine(3, transfers, miner=ALICE.public)
    path = f"/addresses/{encode_address(ALICE.public)}"
    blocks, both = [path], set()
    for _ in range(2):
        blocks.append(urljoin(path, Page(await read(node, blocks[-1])).nexts[-1]))
    for link in (urljoin(path, Page(await read(node, blocks[-1])).nexts[0]), blocks[-1]):
        both.add((await read(node, link)).split("<h2>Mined blocks</h2>")[1].split("<p>")[0])
    assert len(both) == 1


async def test_search_leads_to_the_page(node: TestNode) -> None:
    await fill(node)
    block = await node.get("/v1/blocks/2")
    response = await node.client.get("/search", params={"q": " 2 "})
    assert (response.status_code, response.headers["location"]) == (303, f"/blocks/{block['id']}")
    assert "<q>&lt;b&gt;</q>" in await read(node, "/search?q=<b>", 404)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/blocks/99", 404),
        ("/blocks/<script>", 400),
        ("/blocks?cursor=x", 400),
        (f"/transactions/{'ab' * 32}", 404),
        ("/transactions/ab", 400),
        ("/addresses/fz1nobody", 400),
        ("/search", 404),
        (f"/search?q={'1' * 129}", 400),
    ],
)
async def test_refusals_are_pages(node: TestNode, path: str, status: int) -> None:
    assert "<script>" not in await read(node, path, status)


async def test_an_unknown_path_is_a_page_for_who_reads_pages(node: TestNode) -> None:
    page = await node.client.get("/block/1", headers={"Accept": "text/html,*/*;q=0.8"})
    assert page.status_code == 404
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "<h1>Not found</h1>" in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for path, accept in (("/block/1", "*/*"), ("/v1/block/1", "text/html"), ("/p2p", "text/html")):
        problem = await node.client.get(path, headers={"Accept": accept})
        assert problem.headers["vary"] == "Accept"
        assert (problem.status_code, problem.json()["code"]) == (404, "not-found"), path


async def test_pages_answer_to_head(node: TestNode) -> None:
    async with serve(node) as client:
        page, head = await client.get("/blocks/0"), await client.head("/blocks/0")
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == str(len(page.content))
        assert (await client.head("/blocks/99")).status_code == 404


async def test_what_peers_say_is_escaped(node: TestNode, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = SimpleNamespace(
        url="http://<b>", state="idle", configured=True, height=None, last_seen=1e18, problem='"><script>'
    )
    monkeypatch.setattr(node.runtime.network, "list_peers", lambda: [peer])
    page = await read(node, "/peers")
    assert "http://&lt;b&gt;" in page
    assert "&#34;&gt;&lt;script&gt;" in page
    assert "1,000,000,000,000,000,000" in page


async def test_pages_of_a_pruned_witness_offer_no_network(
    node: TestNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    await node.mine(1)
    monkeypatch.setattr("chain.view.View.get_witness", lambda *_: None)
    page = await read(node, "/blocks/1")
    assert "no longer kept here" in page
    assert "/model" not in page
    assert "/raw" not in page


def test_values_are_written_for_people() -> None:
    assert write_time(0) == "1970-01-01 00:00:00"
    assert write_time(2**64 - 1) == "18,446,744,073,709,551,615"
    assert (write_share(1_999, 2_000), write_share(2_000, 2_000)) == ("99.9 %", "100.0 %")
    values = (1_234, 0.004, 12.345, 99.99, 1234.5)
    assert [write_number(value) for value in values] == ["1,234", "0.004", "12.3", "100", "1,234"]


@asynccontextmanager
async def open_page() -> AsyncIterator[BrowserPage]:
    """An empty page in Chromium."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        yield await browser.new_page()
        await browser.close()


@pytest.mark.browser
async def test_a_browser_follows_the_chain(start_node: StartNode) -> None:
    """In Chromium: no script is refused, and a new block appears without another visit."""
    async with start_node() as node, serve(node) as client, open_page() as page:
        problems: list[str] = []
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        await page.goto(str(client.base_url))
        await expect(page.locator("#live")).to_have_text("live")
        await expect(page.locator("#height")).to_have_text("0")
        await node.mine(1, [build_transfer(node.spec, ALICE, BOB.public)])
        await expect(page.locator("#height")).to_have_text("1")
        await page.locator("input[name=q]").fill(encode_address(BOB.public))
        await page.locator("input[name=q]").press("Enter")
        await expect(page.locator("h1")).to_have_text("Address")
        await expect(page.locator("tbody tr")).to_have_count(1)
    assert problems == []


@pytest.mark.browser
async def test_a_page_that_has_not_changed_is_left_alone(start_node: StartNode) -> None:
    """A selection in it would be lost; the mark stands for one."""
    async with start_node() as node, serve(node) as client, open_page() as page:
        await page.goto(f"{client.base_url}/addresses/{encode_address(BOB.public)}")
        other = build_transfer(node.spec, CAROL, ALICE.public)
        await expect(page.locator("#live")).to_have_text("live")
        await page.evaluate("document.querySelector('h1').id = 'mark'")
        async with page.expect_response(lambda response: response.request.resource_type == "fetch"):
            await node.client.post("/v1/transactions", content=encode_signed(other), headers=OCTETS)
        async with asyncio.timeout(20):
            while await page.evaluate("isReading"):
                pass
        await expect(page.locator("#mark")).to_have_count(1)
        await node.mine(1, [build_transfer(node.spec, ALICE, BOB.public)])
        await expect(page.locator("#mark")).to_have_count(0)
