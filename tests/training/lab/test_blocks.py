"""Blocks mined at a rung: counted once, kept, and told beside the rung's work."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest

from dataset_server.files import write_dataset_file
from dataset_server.importers import import_digits
from training.lab import main
from training.lab.blocks import MinedBlock, mine_block, render_blocks
from training.lab.lines import read_lines
from training.tasks import load_task_file

BLOCK = MinedBlock(
    "digits", "4567cdef", "0123abcd", 9_800, 1_200, 380, 10_000, 0, 40, 12 * 10**9, 1.0, "", "", ""
)


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    path = tmp_path_factory.mktemp("blocks") / "digits.dataset"
    write_dataset_file(path, import_digits())
    return ["blocks", "--task", "digits", "--data", str(path), "--processes", "1"]


def test_blocks_are_mined_once_and_again_the_same(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rung = load_task_file("digits").rungs[0]
    kept, fresh = tmp_path / "rows.jsonl", tmp_path / "fresh.jsonl"
    for blocks, mined in ((1, [0]), (2, [1]), (2, [])):
        assert main([*words, "--work", "1", "--rows", str(kept), "--blocks", str(blocks)]) == 0
        lines = capsys.readouterr().out.splitlines()
        told = [line.split(":")[0] for line in lines if line.startswith("block ")]
        assert told == [f"block {number}" for number in mined]
        assert f"| {rung.min_train_correct:,} | {rung.work:,} | {blocks} |" in lines[-1]
    assert main([*words, "--work", "1", "--rows", str(fresh), "--blocks", "1"]) == 0
    first, second = read_lines(kept, MinedBlock)
    (again,) = read_lines(fresh, MinedBlock)
    assert replace(again, seconds=0, date="") == replace(first, seconds=0, date="")
    assert first.networks >= 1
    assert min(first.multiply_accumulates, second.multiply_accumulates) > 10**8


def test_rung_above_the_ladder_is_one_clear_line(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--work", str(10**12)]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_no_two_blocks_share_seeds_or_headers() -> None:
    """A generator of torch looks at the 32 low bits of a seed alone: those must differ."""
    attempt = Mock()
    attempt.run.return_value = Mock(networks=9, multiply_accumulates=7)
    attempt.search.return_value = Mock(spent=5)
    for number in range(9):
        assert mine_block(attempt, load_task_file("digits").rungs[0], number) == (9, 12)
    asked = [(header.nonce, seed) for (header, _, seed), _ in attempt.search.call_args_list]
    nonces, seeds = zip(*asked, strict=True)
    assert len(set(nonces)) == len({seed % 2**32 for seed in seeds}) == 9


def test_table_has_a_line_for_every_rung() -> None:
    cheaper = replace(BLOCK, number=1, multiply_accumulates=8 * 10**9)
    others = (replace(BLOCK, work=20_000), replace(BLOCK, frozen=9_900), replace(BLOCK, dataset="fedc7654"))
    *_, first, second, third, fourth = render_blocks([BLOCK, *others, cheaper]).splitlines()
    begin = "| digits | 4567cdef | 0123abcd"
    assert first == f"{begin} | 98 % | 1,200 | 10,000 | 2 | 10,000 ± 2,000 | 1.00 ± 0.20 | 0.28 |"
    assert second == f"{begin} | 99 % | 1,200 | 10,000 | 1 | 12,000 | 1.20 | – |"
    assert third == f"{begin} | 98 % | 1,200 | 20,000 | 1 | 12,000 | 0.60 | – |"
    assert fourth == "| digits | fedc7654 | 0123abcd | 98 % | 1,200 | 10,000 | 1 | 12,000 | 1.20 | – |"
