from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_tui.log import LogText
from fleet_tui.reading import Pattern, Reading, moment

NOON = datetime(2026, 5, 4, 12, 0, tzinfo=UTC).astimezone()


def rows(reading: Reading) -> list[str]:
    return [reading.part(row) for row in range(reading.rows)]


def kept(lines: list[str], typed: str) -> list[str]:
    reading = Reading(lines)
    reading.set(keep=Pattern.of(typed), wrap=0)
    return rows(reading)


def test_a_filter_keeps_what_is_around_each_hit_and_turned_round_only_the_others() -> None:
    lines = [*"abcdefg", "ERROR", *"hijklmn"]
    assert kept(lines, "error") == ["f", "g", "ERROR", "h", "i"]
    assert kept(lines, "!error") == [*"abcdefghijklmn"]
    assert kept(lines, "Error") == []
    assert kept(["a[b", "c"], "a[") == ["a[b", "c"], "no regular expression, so the words themselves"


def test_long_lines_are_broken_where_the_screen_ends_also_between_wide_letters() -> None:
    reading = Reading(["abcdefg", "", "模型模型", "x"])
    reading.set(keep=None, wrap=3)
    assert rows(reading) == ["abc", "def", "g", "", "模", "型", "模", "型", "x"]
    assert [reading.at(row) for row in (0, 2, 3, 5)] == [(0, 0), (0, 2), (1, 0), (2, 1)]
    assert [reading.row_of(line) for line in range(5)] == [0, 3, 4, 8, 9]


def test_a_search_goes_round_in_both_directions_and_only_over_what_is_kept() -> None:
    reading = Reading(["loss 1", "step", "loss 2", "x", "x", "x", "Loss 3"])
    one = Pattern("loss")
    assert [reading.next_match(one, line, 1) for line in (0, 2, 6)] == [2, 6, 0]
    assert [reading.next_match(one, line, -1) for line in (0, 2, 6)] == [6, 0, 2]
    assert reading.next_match(Pattern("nowhere"), 0, 1) is None
    reading.set(keep=Pattern.of("!loss"), wrap=0)
    assert reading.next_match(one, 1, 1) is None
    assert reading.next_match(Pattern("x"), 1, 1) == 3


@given(
    st.lists(st.text("ab\n\r", max_size=12), max_size=30), st.sampled_from(["", "a", "!a"]), st.integers(0, 4)
)
def test_text_that_grows_reads_as_if_it_had_been_there_at_once(
    parts: list[str], typed: str, wrap: int
) -> None:
    log = LogText(limit=20)
    growing = Reading(log)
    growing.set(keep=Pattern.of(typed), wrap=wrap)
    for part in parts:
        growing.grown(log.feed(part.encode()))
    whole = Reading(log)
    whole.set(keep=Pattern.of(typed), wrap=wrap)

    assert rows(growing) == rows(whole)
    assert all(
        growing.at(growing.row_of(line)) == (line, 0) for line, _ in map(growing.at, range(growing.rows))
    )


def test_each_line_has_the_time_at_which_it_began_to_come() -> None:
    log = LogText(limit=10)
    for second in range(100):
        log.now = 1000.0 + second
        log.feed(b"line %d\n" % second)
    assert [log.came(at) - 1000 for at in range(len(log))] == [
        float(log[at].split()[1]) for at in range(len(log))
    ]
    at = datetime.fromtimestamp(1095, UTC)
    assert log[log.since(at)] == "line 95"
    assert log.since(at + timedelta(days=1)) == len(log)


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("11:30", NOON.replace(hour=11, minute=30)),
        ("9:05:07", NOON.replace(hour=9, minute=5, second=7)),
        ("10m", NOON - timedelta(minutes=10)),
        (" 2 d ", NOON - timedelta(days=2)),
        ("2026-05-01 08:00", datetime(2026, 5, 1, 8, 0).astimezone()),
        ("tomorrow", None),
        ("25:00", None),
        ("", None),
    ],
)
def test_a_time_is_typed_as_people_write_it(typed: str, found: datetime | None) -> None:
    assert moment(typed, NOON) == found


def test_a_time_of_day_that_is_still_to_come_was_yesterdays() -> None:
    assert moment("23:59", NOON.replace(hour=12)) == NOON.replace(hour=23, minute=59) - timedelta(days=1)
