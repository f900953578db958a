"""How a devnet looks: pure functions from snapshots to Rich tables and to lines of text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from consensus.dataset import DatasetSpec
from consensus.params import ChainSpec
from node.devnet.blocks import BlockFacts
from node.devnet.plan import ServiceSpec
from node.devnet.service import Service, ServiceState
from node.devnet.watch import NodeStatus, Snapshot
from node.miner.journal import MinerStatus

ID_DIGITS = 12
_FULL_ADDRESS_COLUMNS = 118
_STATE_STYLES = {
    ServiceState.RUNNING: "green",
    ServiceState.STARTING: "yellow",
    ServiceState.WAITING: "dim",
    ServiceState.RESTARTING: "yellow",
    ServiceState.FAILED: "bold red",
    ServiceState.STOPPED: "dim",
}
_TIP_STYLES = ("cyan", "magenta", "yellow", "blue", "red")
_ACTIVITY_STYLES = {"training": "green", "block!": "bold green", "no node": "red", "rejected": "red"}


@dataclass(frozen=True, slots=True)
class Scene:
    """What stays the same while a devnet is shown."""

    spec: ChainSpec
    services: tuple[ServiceSpec, ...]
    task: str

    def get_miner_name(self, address: str) -> str:
        """The miner of an address; the address itself, shortened, for a stranger."""
        names = {service.address: service.name for service in self.services if service.address}
        return names.get(address) or shorten(address)


def build_service_table(services: Iterable[Service], columns: int) -> Table:
    """Name, role, URL, address and state of every service."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for title in ("Service", "Role", "URL", "Address", "State"):
        table.add_column(title, no_wrap=True)
    for service in services:
        spec = service.spec
        address = spec.address or ""
        table.add_row(
            Text(spec.name, style="bold"),
            spec.role,
            spec.url or "",
            address if columns >= _FULL_ADDRESS_COLUMNS else shorten(address),
            _build_state(service.state),
        )
    return table


def build_live_view(
    scene: Scene, snapshot: Snapshot, now_seconds: float, up_seconds: float
) -> RenderableType:
    """Everything that moves: a title line, the nodes, the miners, and who is in trouble."""
    parts: list[RenderableType] = [
        "",
        build_title(scene, snapshot, now_seconds, up_seconds),
        "",
        build_node_table(snapshot.nodes),
        "",
        build_miner_table(scene, snapshot),
        "",
    ]
    parts += [
        Text(f"{service.spec.name}: {service.reason}", style="red")
        for service in snapshot.services
        if service.reason
    ]
    return Group(*parts)


def build_hint() -> Text:
    """How to end a devnet and where to look at it, as the last line of its view."""
    return Text("Ctrl-C stops every process; a node's URL opens in a browser", style="dim")


def build_title(scene: Scene, snapshot: Snapshot, now_seconds: float, up_seconds: float) -> Text:
    """Chain, task, time and the latest block in one line."""
    title = Text("FreezeNet devnet", style="bold cyan")
    title.append(f"  chain {scene.spec.chain_id.hex()[:ID_DIGITS]} · {scene.task}", style="default")
    title.append(f" · up {format_duration(up_seconds)}", style="default")
    if snapshot.tip is None:
        title.append(" · waiting for the first block", style="yellow")
        return title
    age = max(0.0, now_seconds - snapshot.tip.timestamp)
    title.append(f" · block {snapshot.tip.height:,}", style="bold green")
    title.append(f" {format_duration(age)} ago", style="default")
    return title


def build_node_table(nodes: Sequence[NodeStatus]) -> Table:
    """A row a node; equal tips have equal colours, so that a fork is seen at once."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, show_edge=False)
    table.add_column("Node ", no_wrap=True)
    table.add_column("State", no_wrap=True, min_width=10)
    table.add_column("Height", justify="right", min_width=8)
    table.add_column("Tip", no_wrap=True, min_width=ID_DIGITS + 1)
    table.add_column("Peers", justify="right")
    table.add_column("Mempool", justify="right")
    tips = list(dict.fromkeys(node.tip for node in nodes if node.is_answering))
    for node in nodes:
        table.add_row(Text(node.name, style="bold"), *_build_node_cells(node, tips))
    return table


def build_miner_table(scene: Scene, snapshot: Snapshot) -> Table:
    """A row a miner: the attempt under way, and its accuracy against both targets."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, show_edge=False)
    table.add_column("Miner", no_wrap=True)
    table.add_column("Doing", no_wrap=True, min_width=10)
    table.add_column("Block", justify="right", no_wrap=True)
    table.add_column("Attempt", justify="right", no_wrap=True)
    table.add_column("Best %", justify="right", no_wrap=True)
    table.add_column("Train % / need", justify="right", no_wrap=True, min_width=12)
    table.add_column("Eval % / need", justify="right", no_wrap=True, min_width=12)
    table.add_column("Found", justify="right")
    states = {service.spec.name: service.state for service in snapshot.services}
    for name, miner in snapshot.miners.items():
        table.add_row(Text(name, style="bold"), *_build_miner_cells(miner, states[name], scene.spec.dataset))
    return table


def format_block(scene: Scene, block: BlockFacts, attempts_by_parent: Mapping[str, int]) -> str:
    """The line of a block."""
    dataset, rung = scene.spec.dataset, block.rung
    attempts = attempts_by_parent.get(block.parent, 0)
    parts = [
        f"block {block.height} {block.block_id[:ID_DIGITS]} by {scene.get_miner_name(block.miner)}",
        f"train {_format_pair(block.train_correct, rung.min_train_correct, dataset.n_train)} %",
        f"eval {_format_pair(block.eval_correct, rung.min_eval_correct, dataset.n_eval)} %",
        f"{rung.frozen / 100:g} % frozen",
        _format_count(attempts, "attempt"),
        f"{block.seconds} s",
    ]
    if block.transactions:
        parts.append(_format_count(block.transactions, "transaction"))
    return " · ".join(parts)


def format_service(service: Service) -> str:
    """The line of a service whose state changed."""
    place = f" at {service.spec.url}" if service.spec.url else ""
    reason = f" ({service.reason})" if service.reason else ""
    return f"{service.spec.role} {service.spec.name}{place}: {service.state}{reason}"


def format_duration(seconds: float) -> str:
    """Minutes and seconds, with hours where there are any."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def shorten(address: str) -> str:
    """The two ends of an address."""
    return f"{address[:10]}…{address[-6:]}" if len(address) > 17 else address


def _build_state(state: ServiceState) -> Text:
    return Text(state.value, style=_STATE_STYLES[state])


def _build_node_cells(node: NodeStatus, tips: Sequence[str]) -> tuple[RenderableType, ...]:
    if not node.is_answering:
        return _build_state(node.state), "", "", "", ""
    state = _build_state(node.state)
    if not node.has_dataset:
        state = Text("no dataset", style="yellow")
    elif not node.is_synced:
        state = Text("syncing", style="yellow")
    tip = Text(node.tip[:ID_DIGITS], style=_TIP_STYLES[tips.index(node.tip) % len(_TIP_STYLES)])
    return state, f"{node.height:,}", tip, str(node.peers), f"{node.mempool:,}"


def _build_miner_cells(
    miner: MinerStatus, state: ServiceState, dataset: DatasetSpec
) -> tuple[RenderableType, ...]:
    doing = Text(miner.activity, style=_ACTIVITY_STYLES.get(miner.activity, "default"))
    if state is not ServiceState.RUNNING:
        doing = _build_state(state)
    if not miner.attempt:
        return doing, "", "", "", "", "", str(miner.accepted)
    return (
        doing,
        f"{miner.height:,}",
        f"{miner.attempt:,}",
        f"{100 * miner.best_train_correct / dataset.n_train:.1f}" if miner.best_train_correct else "–",
        _build_accuracy(miner.train_correct, miner.train_target, dataset.n_train),
        _build_accuracy(miner.eval_correct, miner.eval_target, dataset.n_eval),
        str(miner.accepted),
    )


def _build_accuracy(correct: int, target: int, records: int) -> Text:
    if not correct:
        return Text(f"– / {100 * target / records:.1f}", style="dim")
    style = "bold green" if correct >= target else "default"
    return Text(_format_pair(correct, target, records), style=style)


def _format_pair(correct: int, target: int, records: int) -> str:
    return f"{100 * correct / records:.1f} / {100 * target / records:.1f}"


def _format_count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
