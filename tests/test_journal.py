"""The journal holds every step once, whatever tore its end."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.journal import Entry, Journal, read

finite = st.floats(allow_nan=False, allow_infinity=False)
steps = st.integers(min_value=0, max_value=6)
writes = st.lists(st.tuples(steps, st.dictionaries(st.text(max_size=8), finite, max_size=4)))


@settings(deadline=None)
@given(writes, st.integers(min_value=0, max_value=50))
def test_first_value_of_every_step_and_key_is_kept_across_restarts(appended, restart):
    expected: dict[tuple[int, str], float] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.jsonl"
        journal = Journal(path)
        for i, (step, metrics) in enumerate(appended):
            if i == restart:
                journal = Journal(path)
            journal.append(step, metrics)
            for key, value in metrics.items():
                expected.setdefault((step, key), value)
        written = [((e.step, key), v) for e in read(path) for key, v in e.metrics.items()]
    assert len(written) == len(expected)
    assert dict(written) == expected


@settings(deadline=None)
@given(st.lists(st.dictionaries(st.text(max_size=8), finite, min_size=1), min_size=1), st.data())
def test_a_journal_cut_anywhere_keeps_its_whole_lines_and_goes_on(metrics, data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.jsonl"
        journal = Journal(path)
        for step, values in enumerate(metrics):
            journal.append(step, values, time_ms=step)
        content = path.read_bytes()
        kept = content[: data.draw(st.integers(0, len(content)))]
        path.write_bytes(kept)

        whole = kept.count(b"\n")
        assert [entry.step for entry in read(path)] == list(range(whole))
        again = Journal(path)
        assert again.last_step == (whole - 1 if whole else None)
        for step, values in enumerate(metrics):
            again.append(step, values, time_ms=step)
        assert path.read_bytes() == content


def test_entries_carry_the_time_they_were_measured_at(tmp_path):
    journal = Journal(tmp_path / "deep" / "journal.jsonl")
    journal.append(3, {"val_loss": 0.5}, time_ms=1_700_000_000_123)
    journal.append(4, {"val_loss": 0.25})
    first, second = read(tmp_path / "deep" / "journal.jsonl")
    assert first == Entry(1_700_000_000_123, 3, {"val_loss": 0.5})
    assert second.time_ms > first.time_ms
    assert journal.last_step == 4


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_is_refused_and_leaves_no_trace(tmp_path, value):
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    with pytest.raises(ValueError, match="Out of range"):
        journal.append(0, {"train_loss": value})
    assert path.read_bytes() == b""
    journal.append(0, {"train_loss": 1.0})
    assert [entry.metrics for entry in read(path)] == [{"train_loss": 1.0}]


@pytest.mark.parametrize(
    "damaged",
    [b"\xff\x00", b"[1]", b'{"time": 1, "step": "x", "metrics": {}}', b'{"time": 1, "step": 2}'],
)
def test_a_damaged_line_is_reported_and_costs_only_itself(tmp_path, caplog, monkeypatch, damaged):
    monkeypatch.setattr("pipeline.console.logger.propagate", True)
    path = tmp_path / "journal.jsonl"
    good = json.dumps({"time": 1, "step": 7, "metrics": {"a": 1.0}}).encode()
    path.write_bytes(damaged + b"\n" + good + b"\n")
    assert [entry.step for entry in read(path)] == [7]
    assert "line 1 is damaged" in caplog.text


def test_no_journal_is_an_empty_one(tmp_path):
    assert read(tmp_path / "none.jsonl") == []
