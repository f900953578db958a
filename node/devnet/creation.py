"""Creating a devnet: dataset, keys, measured difficulty, the plan and, last of all, chain.json.

A directory with chain.json is a created devnet and is never created again. One without is new, whatever else
lies in it: what services of an earlier chain left there is moved aside.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from chain.spec_file import read_chain_spec, write_chain_spec
from consensus.dataset import DatasetSpec
from consensus.errors import RuleViolation
from consensus.params import ChainParams, ChainSpec
from consensus.task import Task
from dataset_server.files import write_dataset_file
from dataset_server.store import DatasetStore
from node.devnet.accounts import FUNDED_NAMES, build_key, write_wallets
from node.devnet.datasets import read_task_dataset
from node.devnet.errors import DevnetError
from node.devnet.files import DevnetFiles
from node.devnet.plan import DevnetPlan, assign_ports, is_service_name, read_plan, write_plan
from node.devnet.processes import build_environment, guarding
from training.tasks import TASK_NAMES, load_task, load_task_file

TARGET_INTERVAL_SECONDS = {"digits": 20}
SLOW_TARGET_INTERVAL_SECONDS = 300
"""Of tasks with tens of thousands of records."""
HALVING_INTERVAL = 100_000
INITIAL_REWARD = 50
MATURITY = 5
MAX_TRANSACTIONS = 256
FUNDS = 1_000_000
"""What genesis gives each funded account."""
MEASURE_SECONDS = 6.0
_MEASURE_TIMEOUT_SECONDS = 180.0

DEFAULT_NODES = 3
DEFAULT_MINERS = 2
DEFAULT_TASK = "digits"
DEFAULT_SEED = "devnet"

Tell = Callable[[str], None]
MeasureRate = Callable[[DevnetPlan, Path], float]
"""(plan, dataset file) → million multiply-accumulates a second of all miners together."""


@dataclass(frozen=True, slots=True)
class DevnetOrder:
    """What the operator asked for; None leaves what the devnet has, or the default."""

    nodes: int | None = None
    miners: int | None = None
    task: str | None = None
    seed: str | None = None
    base_port: int | None = None
    source: Path | None = None
    """Where the files of the dataset lie; read once, when the devnet is created."""


def prepare_devnet(
    files: DevnetFiles, order: DevnetOrder, tell: Tell, measure: MeasureRate | None = None
) -> tuple[DevnetPlan, ChainSpec]:
    """The plan and the chain of a directory, created where it has none, with ports that are free now.

    Raises DevnetError, StoreError, KeystoreError, OSError.
    """
    files.root.mkdir(parents=True, exist_ok=True)
    is_new = not files.chain.exists()
    kept = None if is_new else read_plan(files)
    if kept is None and not is_new:
        raise DevnetError(
            f"{files.plan}, with seed and services of the chain beside it, is missing: without"
            f" {files.chain.name} too, a new devnet is created, and what lies here is moved aside"
        )
    plan = assign_ports(merge_order(kept, order))
    if is_new:
        return plan, create_devnet(files, plan, order.source, tell, measure or measure_rate_together)
    spec = read_chain_spec(files.chain)
    tell(f"resuming the devnet in {files.root}")
    write_wallets(files, plan.seed, plan.miner_names)
    write_plan(files, plan)
    return plan, spec


def merge_order(kept: DevnetPlan | None, order: DevnetOrder) -> DevnetPlan:
    """The plan of an order; what it does not say is as it was. Raises DevnetError for what cannot change."""
    if kept is None:
        return DevnetPlan(
            task=order.task or DEFAULT_TASK,
            seed=order.seed or DEFAULT_SEED,
            nodes=order.nodes or DEFAULT_NODES,
            miners=DEFAULT_MINERS if order.miners is None else order.miners,
            base_port=order.base_port,
            ports={},
        )
    for name, asked, given in (("task", order.task, kept.task), ("seed", order.seed, kept.seed)):
        if asked is not None and asked != given:
            raise DevnetError(f"this devnet has {name} {given!r}; another one needs another --dir")
    return replace(
        kept,
        nodes=order.nodes or kept.nodes,
        miners=kept.miners if order.miners is None else order.miners,
        base_port=kept.base_port if order.base_port is None else order.base_port,
    )


def create_devnet(
    files: DevnetFiles, plan: DevnetPlan, source: Path | None, tell: Tell, measure: MeasureRate
) -> ChainSpec:
    """Everything that is made once. Raises DevnetError, OSError."""
    check_task_name(plan.task)
    move_leftovers(files)
    tell(f"importing the dataset of task {plan.task}")
    dataset = import_dataset(files, plan.task, source)
    task = bind_task(plan.task, dataset)
    write_wallets(files, plan.seed, (*FUNDED_NAMES, *plan.miner_names))
    tell(f"measuring how fast {max(1, plan.miners)} miners train together, {MEASURE_SECONDS:g} s")
    rate = measure(plan, files.get_dataset_file(plan.task))
    most = load_task_file(plan.task).most_counted_work
    difficulty = compute_initial_difficulty(task, rate, get_target_interval(plan.task), most)
    tell(f"{rate:,.0f} million multiply-accumulates a second: initial difficulty {difficulty:,}")
    spec = ChainSpec.build(build_params(plan, task, difficulty, int(time.time())), dataset)
    write_plan(files, plan)
    write_chain_spec(files.chain, spec)
    return spec


def check_task_name(name: str) -> None:
    """Raises DevnetError for a task that does not exist."""
    if name not in TASK_NAMES:
        raise DevnetError(f"there is no task {name!r}; tasks: {', '.join(TASK_NAMES)}")


def move_leftovers(files: DevnetFiles) -> None:
    """Moves the services' directories, wallets and addresses of an earlier chain out of the way.

    Of all services that it may have had; deletes nothing.
    """
    keys = {files.wallets.name, files.addresses.name}
    leftovers = [path for path in files.root.iterdir() if is_service_name(path.name) or path.name in keys]
    if not leftovers:
        return
    aside = files.root / f"old-{time.strftime('%Y%m%d-%H%M%S')}"
    aside.mkdir(exist_ok=True)
    for path in leftovers:
        path.rename(aside / path.name)


def import_dataset(files: DevnetFiles, task: str, source: Path | None) -> DatasetSpec:
    """The task's dataset in the store to serve, and in one file beside it. Raises DevnetError, OSError."""
    encoded, info = read_task_dataset(task, source)
    files.dataset_store.mkdir(parents=True, exist_ok=True)
    DatasetStore(files.dataset_store).put(encoded.spec, encoded.train, encoded.eval, info)
    write_dataset_file(files.get_dataset_file(task), encoded)
    return encoded.spec


def bind_task(name: str, dataset: DatasetSpec) -> Task:
    """The task on that dataset. Raises DevnetError where the ladder does not fit it."""
    try:
        return load_task(name, dataset)
    except RuleViolation as error:
        raise DevnetError(f"task {name} does not fit dataset {dataset.dataset_id.hex()}: {error}") from None


def get_target_interval(task: str) -> int:
    """Seconds between blocks: at least 20 evaluations of the dataset on a slow core (protocol §10)."""
    return TARGET_INTERVAL_SECONDS.get(task, SLOW_TARGET_INTERVAL_SECONDS)


def compute_initial_difficulty(task: Task, rate: float, target_interval: int, most: int) -> int:
    """Half the work of one target interval at `rate` million multiply-accumulates a second.

    At least the first rung's and at most `most`: a chain begins on rungs whose price was counted, and what a
    fitted one really costs, its own blocks tell. Half, since blocks that come early put it right sooner than
    blocks that do not come.
    """
    return min(max(int(rate * target_interval / 2), task.rungs[0].work), most)


def build_params(plan: DevnetPlan, task: Task, difficulty: int, genesis_seconds: int) -> ChainParams:
    """The chain's parameters: a short interval and funded accounts."""
    keys = sorted(build_key(plan.seed, name).public for name in FUNDED_NAMES)
    return ChainParams(
        name="devnet",
        target_interval=get_target_interval(plan.task),
        halving_interval=HALVING_INTERVAL,
        initial_reward=INITIAL_REWARD,
        maturity=MATURITY,
        max_transactions=MAX_TRANSACTIONS,
        genesis_timestamp=genesis_seconds,
        initial_difficulty=difficulty,
        balances=tuple((key, FUNDS) for key in keys),
        task=task,
    )


def measure_rate_together(plan: DevnetPlan, dataset: Path) -> float:
    """The summed rate of as many `miner bench` as there will be miners, at once: they share the machine."""
    count = max(1, plan.miners)
    command = (
        *(sys.executable, "-P", "-m", "node", "miner", "bench", "--json", "--task", plan.task),
        *("--data", str(dataset.resolve()), "--block-seconds", str(get_target_interval(plan.task) * count)),
        *("--seconds", str(MEASURE_SECONDS), "--threads", "1"),
    )
    token = secrets.token_hex(16)
    environment = build_environment(os.environ, token)
    with guarding(token), ExitStack() as benches:
        started = [benches.enter_context(_bench(command, environment)) for _ in range(count)]
        return sum(_read_rate(bench) for bench in started)


@contextmanager
def _bench(command: Sequence[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _read_rate(bench: subprocess.Popen[str]) -> float:
    try:
        output, errors = bench.communicate(timeout=_MEASURE_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        raise DevnetError("measuring the training rate took too long") from None
    if bench.returncode:
        lines = errors.strip().splitlines() or [f"exit code {bench.returncode}"]
        raise DevnetError(f"measuring the training rate failed: {lines[-1]}")
    return float(json.loads(output)["rate"])
