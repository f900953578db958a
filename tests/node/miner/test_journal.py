"""The miner's journal: lines, a reader that follows, and the status folded from them."""

from __future__ import annotations

from pathlib import Path

from node.miner.journal import Journal, JournalTail, MinerStatus

FACTS = {"attempt": 3, "parent": "ab", "height": 7, "frozen": 9_500, "train_target": 90, "eval_target": 80}


def test_a_reader_follows_and_waits_for_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "m1" / "status.jsonl"
    tail = JournalTail(path)
    assert list(tail.read_new()) == []
    with Journal(path, lambda: 1.5) as journal:
        journal.record("attempt", attempt=1)
        assert [event["event"] for event in tail.read_new()] == ["attempt"]
        assert list(tail.read_new()) == []
    with path.open("a", encoding="utf-8") as file:
        file.write('{"event":"mis')
        file.flush()
        assert list(tail.read_new()) == []
        file.write('sed"}\n')
    assert [event["event"] for event in tail.read_new()] == ["missed"]


def test_broken_lines_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "status.jsonl"
    path.write_text('{"event":"at\n[1]\n{"event":5}\n\n', encoding="utf-8")
    with Journal(path, lambda: 2.0) as journal:
        journal.record("stopped")
    assert [dict(event) for event in JournalTail(path).read_new()] == [{"time": 2.0, "event": "stopped"}]


def test_a_long_journal_is_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "status.jsonl"
    tail = JournalTail(path)
    numbers: list[int] = []
    with Journal(path, lambda: 1.5, max_bytes=1_000) as journal:
        for number in range(100):
            journal.record("attempt", attempt=number)
            numbers += [event["attempt"] for event in tail.read_new()]
    with Journal(path, lambda: 1.5, max_bytes=100) as journal:
        journal.record("attempt", attempt=100)
        numbers += [event["attempt"] for event in tail.read_new()]
    assert numbers == list(range(101))
    assert path.stat().st_size < 100
    assert path.with_name("status.jsonl.1").stat().st_size < 1_100
    assert len(list(tmp_path.iterdir())) == 2


def test_status_follows_an_attempt() -> None:
    status = MinerStatus()
    status.apply({"event": "attempt", **FACTS})
    status.apply(
        {
            "event": "progress",
            **FACTS,
            "samples": 5,
            "total_samples": 9,
            "train_correct": 4,
            "eval_correct": 3,
        }
    )
    assert (status.attempt, status.height, status.train_correct, status.train_target) == (3, 7, 4, 90)
    assert (status.activity, status.samples, status.total_samples) == ("training", 5, 9)
    status.apply({"event": "attempt", **FACTS, "attempt": 4})
    assert (status.attempt, status.samples, status.train_correct) == (4, 0, 0)
    assert status.attempts_by_parent == {"ab": 2}


def test_status_keeps_the_best_attempt_on_a_parent() -> None:
    status = MinerStatus()
    for train_correct in (4, 7, 5):
        status.apply({"event": "attempt", **FACTS})
        status.apply({"event": "missed", **FACTS, "train_correct": train_correct})
    assert status.best_train_correct == 7
    status.apply({"event": "attempt", **FACTS, "parent": "cd"})
    assert status.best_train_correct == 0


def test_status_takes_counts_that_are_not_known_yet() -> None:
    status = MinerStatus()
    status.apply({"event": "progress", **FACTS, "samples": 5, "total_samples": 9, "train_correct": None})
    assert (status.samples, status.train_correct) == (5, 0)


def test_status_counts_verdicts_but_no_dry_runs() -> None:
    status = MinerStatus()
    for event in (
        {"event": "accepted", **FACTS},
        {"event": "accepted", **FACTS, "dry_run": True},
        {"event": "rejected", **FACTS},
        {"event": "invented later"},
    ):
        status.apply(event)
    assert (status.accepted, status.rejected, status.activity) == (1, 1, "rejected")
