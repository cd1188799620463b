"""Curves shortened: what a person looks for in one is never lost, however long it is."""

from __future__ import annotations

import math
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_protocol.metrics import Reading
from fleet_server.metrics.curves import extremes, joined, thinned

VALUES = st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), max_size=600)


def curve(values: list[float | None]) -> tuple[Reading, ...]:
    return tuple((step, value, float(step)) for step, value in enumerate(values))


def test_a_curve_that_fits_is_whole():
    for length in (0, 1, 4, 5, 99, 100):
        points = curve([float(step % 7) for step in range(length)])
        assert thinned(points, 100) == points


def test_of_each_stretch_its_first_lowest_highest_and_last_are_kept():
    points = list(curve([3, 5, None, 1, 4, 9, 4]))
    assert [value for _, value, _ in extremes(points)] == [3, 1, 9, 4]
    assert [value for _, value, _ in extremes(list(curve([None] * 7)))] == [None, None]


@settings(deadline=None, max_examples=300)
@given(values=VALUES, limit=st.integers(4, 60))
def test_ends_and_extremes_survive_in_bounded_size(values: list[float | None], limit: int):
    points = curve(values)
    kept = thinned(points, limit)
    assert len(kept) <= limit
    assert list(kept) == [point for point in points if point in kept], "in their order, and none made up"
    assert kept[:1] == points[:1]
    assert kept[-1:] == points[-1:]
    known = [value for value in values if value is not None]
    left = [value for _, value, _ in kept if value is not None]
    assert (min(left, default=0), max(left, default=0)) == (min(known, default=0), max(known, default=0))


@settings(deadline=None, max_examples=100)
@given(length=st.integers(41, 5000), limit=st.integers(40, 80))
def test_what_is_kept_is_spread_over_the_whole(length: int, limit: int):
    kept = [step for step, _, _ in thinned(curve([math.sin(step) for step in range(length)]), limit)]
    longest = max(after - before for before, after in pairwise(kept))
    assert longest <= 16 * length / limit + 4


@settings(deadline=None, max_examples=60)
@given(values=VALUES, limit=st.integers(4, 60))
def test_thinning_what_is_thin_changes_nothing(values: list[float | None], limit: int):
    once = thinned(curve(values), limit)
    assert thinned(once, limit) == once


def at(*steps: int, value: float = 1.0) -> tuple[Reading, ...]:
    return tuple((step, value, float(step)) for step in steps)


def test_an_attempt_that_resumed_continues_the_one_before():
    first = {"loss": at(1, 2, 3, 4, 5, value=1), "accuracy": at(2, 4, value=1)}
    second = {"loss": at(4, 5, 6, value=2)}
    assert joined([first, second]) == {
        "loss": at(1, 2, 3, value=1) + at(4, 5, 6, value=2),
        "accuracy": at(2, value=1),
    }


def test_an_attempt_that_started_over_stands_alone():
    assert joined([{"loss": at(1, 2, 3), "old": at(1, 2)}, {"loss": at(1, value=2)}]) == {
        "loss": at(1, value=2)
    }


def test_an_attempt_without_a_point_changes_nothing():
    assert joined([{"loss": at(1, 2)}, {}, {"loss": ()}]) == {"loss": at(1, 2)}
    assert joined([]) == {}
