"""Creating a devnet once: parameters, keys, dataset and difficulty; and what a second start keeps."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from chain.keystore import open_keystore
from chain.spec_file import read_chain_spec
from consensus.params import ChainSpec
from dataset_server.files import read_dataset_file
from dataset_server.importers import import_digits
from dataset_server.store import DatasetStore
from node.devnet.accounts import FUNDED_NAMES, PASSWORD, build_key
from node.devnet.creation import (
    FUNDS,
    DevnetOrder,
    bind_task,
    compute_initial_difficulty,
    merge_order,
    prepare_devnet,
)
from node.devnet.errors import DevnetError
from node.devnet.files import DevnetFiles
from node.devnet.plan import DevnetPlan, read_plan
from tests.dataset_server.samples import write_fashion_mnist
from tests.node.devnet.test_plan import PLAN
from training.tasks import TASK_NAMES, load_task_file


class Bench:
    """A measurement that takes no time, and what it was asked for."""

    def __init__(self, rate: float = 0.0) -> None:
        self.rate = rate
        self.datasets: list[Path] = []

    def __call__(self, _plan: DevnetPlan, dataset: Path) -> float:
        self.datasets.append(dataset)
        return self.rate


def create(tmp_path: Path, order: DevnetOrder | None = None) -> tuple[DevnetFiles, DevnetPlan, ChainSpec]:
    files = DevnetFiles(tmp_path / "d")
    return files, *prepare_devnet(files, order or DevnetOrder(), lambda _: None, Bench())


def test_creates_everything_once(tmp_path: Path) -> None:
    files, plan, spec = create(tmp_path)
    assert (plan.nodes, plan.miners, plan.task, plan.seed) == (3, 2, "digits", "devnet")
    assert read_plan(files) == plan
    assert read_chain_spec(files.chain).chain_id == spec.chain_id
    assert DatasetStore(files.dataset_store).has(spec.dataset.dataset_id)
    assert read_dataset_file(files.get_dataset_file("digits")).spec == spec.dataset
    assert abs(spec.params.genesis_timestamp - time.time()) < 30
    assert spec.params.target_interval == 20
    bench = Bench()
    assert prepare_devnet(files, DevnetOrder(), lambda _: None, bench)[1].chain_id == spec.chain_id
    assert bench.datasets == []


def test_keys_come_from_the_seed_and_open(tmp_path: Path) -> None:
    files, plan, spec = create(tmp_path, DevnetOrder(miners=1, seed="other"))
    for name in (*FUNDED_NAMES, "m1"):
        key = open_keystore(files.wallets / f"{name}.json", PASSWORD)
        assert key == build_key("other", name)
        assert key != build_key("devnet", name)
        assert (files.addresses / name).read_text(encoding="utf-8") == f"{key.address}\n"
    assert dict(spec.params.balances) == {build_key(plan.seed, name).public: FUNDS for name in FUNDED_NAMES}


def test_a_directory_without_parameters_is_new_whatever_lies_in_it(tmp_path: Path) -> None:
    files, _, old = create(tmp_path)
    files.get_service("n1").mkdir()
    (files.get_service("n1") / "chain.sqlite3").write_text("another chain", encoding="utf-8")
    (files.root / "notes.txt").write_text("mine", encoding="utf-8")
    files.plan.write_text("damaged", encoding="utf-8")
    files.chain.unlink()
    _, spec = prepare_devnet(files, DevnetOrder(miners=1), lambda _: None, Bench(1e12))
    assert spec.chain_id != old.chain_id
    assert not (files.get_service("n1") / "chain.sqlite3").exists()
    assert (files.root / "notes.txt").read_text(encoding="utf-8") == "mine"
    (kept,) = files.root.glob("old-*/n1/chain.sqlite3")
    assert kept.read_text(encoding="utf-8") == "another chain"


def test_the_initial_difficulty_is_half_an_interval_of_work_on_counted_rungs(tmp_path: Path) -> None:
    _, _, spec = create(tmp_path)
    rungs = spec.task.rungs
    between = (rungs[0].work + rungs[-1].work) // 2
    assert compute_initial_difficulty(spec.task, 0.0, 20, rungs[-1].work) == rungs[0].work
    assert compute_initial_difficulty(spec.task, 1e15, 20, rungs[-1].work) == rungs[-1].work
    assert compute_initial_difficulty(spec.task, between / 10, 20, rungs[-1].work) == between
    assert compute_initial_difficulty(spec.task, between / 10, 20, rungs[2].work) == rungs[2].work


def test_a_creation_that_ends_before_the_plan_is_kept_has_no_chain(tmp_path: Path) -> None:
    order = DevnetOrder(nodes=5, miners=1, seed="mine")
    in_the_way = tmp_path / "d" / "devnet.json.new"
    in_the_way.mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        create(tmp_path, order)
    assert not DevnetFiles(tmp_path / "d").chain.exists()
    in_the_way.rmdir()
    assert create(tmp_path, order)[1].nodes == 5


def test_rejects_a_chain_without_its_plan(tmp_path: Path) -> None:
    files, _, _ = create(tmp_path, DevnetOrder(seed="mine"))
    files.plan.unlink()
    with pytest.raises(DevnetError, match=r"devnet\.json, with seed and services .* is missing"):
        create(tmp_path)


def test_services_that_the_new_chain_has_not_are_moved_aside_too(tmp_path: Path) -> None:
    files, _, _ = create(tmp_path, DevnetOrder(nodes=5, miners=3))
    files.chain.unlink()
    for name in ("n1", "n5", "m3", "notes", "n05"):
        files.get_service(name).mkdir()
    prepare_devnet(files, DevnetOrder(nodes=1, miners=0), lambda _: None, Bench())
    (aside,) = files.root.glob("old-*")
    assert {path.name for path in aside.iterdir()} == {"n1", "n5", "m3", "dataset", "wallets", "addresses"}
    assert {path.stem for path in files.wallets.iterdir()} == set(FUNDED_NAMES)
    assert files.get_service("notes").exists()


@pytest.mark.parametrize("task", TASK_NAMES)
def test_the_last_counted_rung_is_below_the_first_fitted(task: str) -> None:
    file = load_task_file(task)
    fitted = [measurement.is_fitted for measurement in file.measurements].index(True)
    assert file.most_counted_work == file.rungs[fitted - 1].work


def test_a_new_plan_has_the_defaults() -> None:
    assert merge_order(None, DevnetOrder(nodes=5)) == DevnetPlan("digits", "devnet", 5, 2, None, {})
    assert merge_order(None, DevnetOrder(miners=0)).miners == 0


def test_a_kept_plan_changes_only_where_it_is_told() -> None:
    assert merge_order(PLAN, DevnetOrder()) == PLAN
    assert merge_order(PLAN, DevnetOrder(nodes=4, task="digits")) == replace(PLAN, nodes=4)


@pytest.mark.parametrize("order", [DevnetOrder(task="other"), DevnetOrder(seed="other")])
def test_rejects_a_change_of_what_fixes_the_chain(order: DevnetOrder) -> None:
    with pytest.raises(DevnetError, match="another one needs another --dir"):
        merge_order(PLAN, order)


def test_rejects_an_unknown_task(tmp_path: Path) -> None:
    with pytest.raises(DevnetError, match="there is no task 'other'; tasks: digits"):
        create(tmp_path, DevnetOrder(task="other"))


def test_rejects_a_source_for_embedded_images(tmp_path: Path) -> None:
    with pytest.raises(DevnetError, match="task digits takes no --source"):
        create(tmp_path, DevnetOrder(source=tmp_path))


@pytest.mark.parametrize(
    ("task", "line"), [("fashion-mnist", "train-labels-idx1-ubyte"), ("cifar10", "data_batch_1")]
)
def test_rejects_a_source_without_the_files(tmp_path: Path, task: str, line: str) -> None:
    with pytest.raises(DevnetError, match=f"the dataset of task {task}: missing-file: .*{line}"):
        create(tmp_path, DevnetOrder(task=task, source=tmp_path))
    assert not DevnetFiles(tmp_path / "d").chain.exists()


def test_creates_a_devnet_from_files(tmp_path: Path) -> None:
    write_fashion_mnist(tmp_path / "source", 60_000, 10_000)
    order = DevnetOrder(task="fashion-mnist", source=tmp_path / "source")
    files, _, spec = create(tmp_path, order)
    assert spec.task.dataset_id == spec.dataset.dataset_id
    assert (spec.dataset.n_train, spec.dataset.n_eval) == (60_000, 10_000)
    assert spec.params.target_interval == 300
    assert spec.params.initial_difficulty == spec.task.rungs[0].work
    assert DatasetStore(files.dataset_store).has(spec.dataset.dataset_id)


def test_rejects_a_dataset_that_the_ladder_does_not_fit() -> None:
    with pytest.raises(DevnetError, match="task digits does not fit dataset"):
        bind_task("digits", replace(import_digits().spec, classes=11))
