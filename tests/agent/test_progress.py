from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_agent import progress
from fleet_agent.progress import LINE_BYTES, TrainerEvents
from fleet_protocol.jobs import Progress
from fleet_protocol.metrics import MAX_SERIES, Point


def point(step: int, name: str = "loss", value: object = 0.5, **more: object) -> str:
    return json.dumps({"type": "metric", "name": name, "step": step, "value": value, **more}) + "\n"


def append(path: Path, text: str | bytes) -> None:
    with path.open("ab") as file:
        file.write(text.encode() if isinstance(text, str) else text)


def read(path: Path) -> TrainerEvents:
    events = TrainerEvents(path, lambda: 1000.0)
    while events.poll():
        pass
    return events


def test_progress_and_phase_are_followed_as_they_are_appended(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    events = TrainerEvents(path)
    assert not events.poll()
    append(path, '{"type": "phase", "name": "train"}\n' + point(1) + '{"type": "prog')
    assert events.poll()
    assert events.latest == Progress(phase="train")
    append(path, 'ress", "step": 2, "total": 8}\n')
    assert events.poll()
    assert events.latest == Progress(step=2, total=8, phase="train")
    assert not events.poll()
    assert events.complaint is None


def test_checkpoints_are_counted_and_what_a_newer_helper_tells_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    append(path, '{"type": "checkpoint", "step": 2}\n{"type": "weather"}\n{"type": "checkpoint"}\n')
    events = read(path)
    assert (events.checkpoints, events.bad_lines) == (2, 0)


def test_points_have_the_trainers_time_or_that_of_reading_and_no_number_is_none(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    append(path, point(1, at=12.5) + point(2, value=float("nan")) + point(3, value=float("-inf")))
    append(path, point(4, value=None) + point(5, value=3))
    assert read(path).points == [
        Point(name="loss", step=1, value=0.5, at=12.5),
        *(Point(name="loss", step=step, value=None, at=1000.0) for step in (2, 3, 4)),
        Point(name="loss", step=5, value=3.0, at=1000.0),
    ]


BAD = [
    b"\xff\xfe",
    b"",
    b"{}",
    b"[1]",
    b'{"type": "progress", "step": "many"}',
    b'{"type": "phase", "name": 1}',
    b'{"type": "phase"}',
    b"nul",
    b"[" * 50_000,
    b'{"type": "metric", "name": "loss", "step": 1}',
    b'{"type": "metric", "name": "loss", "step": 1.5, "value": 1}',
    b'{"type": "metric", "name": "loss", "step": 1, "value": "low"}',
    b'{"type": "metric", "name": "loss", "step": 1, "value": 1' + b"0" * 400 + b"}",
    b'{"type": "metric", "name": "loss", "step": 1, "value": 1' + b"0" * 5000 + b"}",
    b'{"type": "metric", "name": "loss", "step": 1, "value": 1, "at": "noon"}',
    b'{"type": "metric", "name": "", "step": 1, "value": 1}',
    b'{"type": "metric", "name": "a\\nb", "step": 1, "value": 1}',
    b'{"type": "metric", "name": "\\ud800", "step": 1, "value": 1}',
    b'{"type": "metric", "name": "' + b"x" * 10_000 + b'", "step": 1, "value": 1}',
    b"x" * (LINE_BYTES + 1),
    b'{"type": "metric", "name": "loss", "step": 1, "value": 1, "more": "' + b"x" * LINE_BYTES + b'"}',
]


@pytest.mark.parametrize("bad", BAD, ids=lambda line: line[:60].decode(errors="replace"))
def test_a_line_that_makes_no_sense_is_counted_and_skipped(tmp_path: Path, bad: bytes) -> None:
    path = tmp_path / "events.jsonl"
    append(path, bad + b"\n" + point(1).encode() + b'{"type": "progress", "step": 5}\n')
    events = read(path)
    assert events.latest == Progress(step=5)
    assert [one.step for one in events.points] == [1]
    assert events.bad_lines == 1
    assert events.complaint


def test_a_line_is_too_long_in_whatever_pieces_it_comes(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    events = TrainerEvents(path)
    for _ in range(4):
        append(path, b"x" * LINE_BYTES)
        events.poll()
    append(path, "\n" + point(1))
    events.poll()
    assert (events.bad_lines, len(events.points)) == (1, 1)


def test_too_many_names_are_left_out_with_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    append(path, "".join(point(1, f"loss of sample {number}") for number in range(5000)))
    append(path, point(2, "loss of sample 0"))
    events = read(path)
    assert len(events.points) == MAX_SERIES + 1
    assert events.bad_lines == 5000 - MAX_SERIES
    assert "more than 1000 names of metrics" in (events.complaint or "")


def test_the_last_line_needs_no_end_once_nothing_follows(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    append(path, point(1) + point(2).rstrip())
    events = read(path)
    assert [one.step for one in events.points] == [1]
    events.finish()
    events.finish()
    assert [one.step for one in events.points] == [1, 2]
    append(path, '\n{"type": "met')  # as a trainer leaves it that was killed
    events = read(path)
    events.finish()
    assert (len(events.points), events.bad_lines) == (2, 1)


def test_what_is_stored_elsewhere_is_not_kept_and_may_be_wanted_again(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    append(path, "".join(point(step) for step in range(10)))
    events = read(path)
    events.acknowledge(4)
    assert (events.first, [one.step for one in events.points]) == (4, [4, 5, 6, 7, 8, 9])
    events.acknowledge(2)  # the coordinator was put back to an older state
    while events.poll():
        pass
    assert (events.first, [one.step for one in events.points]) == (2, [2, 3, 4, 5, 6, 7, 8, 9])


def test_an_agent_that_takes_up_sends_only_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    events = TrainerEvents(path)
    events.acknowledge(3)
    append(path, "".join(point(step) for step in range(5)))
    events.poll()
    assert [one.step for one in events.points] == [3, 4]


@settings(deadline=None, max_examples=60)
@given(
    lines=st.lists(
        st.one_of(st.integers(0, 99).map(lambda step: point(step).encode()), st.binary(max_size=40))
    ),
    cuts=st.lists(st.integers(0, 400), max_size=8),
)
def test_points_have_the_same_numbers_in_whatever_pieces_they_are_read(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], cuts: list[int]
) -> None:
    path = tmp_path_factory.mktemp("events") / "events.jsonl"
    whole = b"\n".join(lines)
    pieces, at = TrainerEvents(path, lambda: 1000.0), 0
    for cut in [*sorted(cuts), len(whole)]:
        append(path, whole[at : max(at, cut)])
        at = max(at, cut)
        pieces.poll()
    at_once = read(path)
    pieces.finish()
    at_once.finish()
    assert pieces.points == at_once.points
    assert (pieces.bad_lines, pieces.latest) == (at_once.bad_lines, at_once.latest)


def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "FULL_POINTS", 100)
    path = tmp_path / "events.jsonl"
    append(path, point(1) * 100)
    events = read(path)
    assert events.is_full
    events.acknowledge(1)
    assert not events.is_full
