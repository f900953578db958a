"""Rows survive a kill and come back as they were."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from training.lab.lines import append_lines, read_lines


@dataclass(frozen=True)
class Sample:
    name: str
    counts: tuple[int, ...]


ONE, TWO = Sample("one", (1, 2)), Sample("two", ())


def test_no_file_holds_no_rows(tmp_path: Path) -> None:
    assert read_lines(tmp_path / "none.jsonl", Sample) == []


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "new" / "rows.jsonl"
    assert list(append_lines(path, [ONE], Sample)) == [ONE]
    assert list(append_lines(path, [TWO], Sample)) == [TWO]
    assert read_lines(path, Sample) == [ONE, TWO]


def test_each_row_is_in_the_file_before_the_next_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    for expected, _ in enumerate(append_lines(path, [ONE, TWO], Sample), 1):
        assert len(read_lines(path, Sample)) == expected


@pytest.mark.parametrize("cut", ['{"name":"th', '{"name":"three","counts":[3]}'])
def test_line_cut_by_a_kill_is_left_out_and_removed(cut: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    list(append_lines(path, [ONE], Sample))
    path.write_text(path.read_text() + cut)
    assert read_lines(path, Sample) == [ONE]
    assert list(append_lines(path, [TWO], Sample)) == [TWO]
    assert read_lines(path, Sample) == [ONE, TWO]


@pytest.mark.parametrize("line", ['{"name":"one"}', '{"name":"one","counts":[],"more":1}', "[]", "no JSON"])
def test_line_of_another_kind_is_named(line: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(ValueError, match=r"rows\.jsonl has a line that is no Sample"):
        read_lines(path, Sample)


def test_a_file_that_ends_in_no_row_is_refused_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("a line without an end", "utf-8")
    with pytest.raises(ValueError, match="no row"):
        list(append_lines(path, [ONE], Sample))
    assert path.read_text("utf-8") == "a line without an end"
