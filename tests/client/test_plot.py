from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from fleet_client.plot import ASCII, FINE, LEAST_HEIGHT, LEAST_WIDTH, Cell, Charset, Point, overlay, plot

FALLING: list[Point] = [(step, 1 / (step + 1), 0.0) for step in range(100)]


def test_a_falling_curve_between_its_axes():
    assert plot(FALLING[:5], 30, 8, ASCII) == [
        "  1 +**",
        "    |  *",
        "    |   ***",
        "    |      ****",
        "    |          ******",
        "0.2 +                *********",
        "    +-------------------------",
        "     0                       4",
    ]
    lines = plot(FALLING, 40, 6)
    assert lines[0].startswith("   1 ┤⢻") or lines[0].startswith("   1 ┤⡇"), lines[0]
    assert lines[-2] == "     └──────────────────────────────────"
    assert lines[-1].split() == ["0", "99"]


def test_no_number_is_a_gap():
    whole = plot([(0, 1.0, 0), (10, 1.0, 0), (20, 1.0, 0)], 30, 6, ASCII)
    broken = plot([(0, 1.0, 0), (10, None, 0), (20, 1.0, 0)], 30, 6, ASCII)
    assert sum(line.count("*") for line in broken) == 2 < sum(line.count("*") for line in whole)


def test_what_has_no_extent_is_drawn_in_the_middle():
    lines = plot([(7, 0.5, 0)], 30, 7, ASCII)
    assert [line.count("*") for line in lines] == [0, 0, 1, 0, 0, 0, 0]
    assert lines[-1].split() == ["7"]
    assert plot([], 30, 7) == plot([(7, None, 0)], 30, 7) == []


def test_differences_beyond_all_floats():
    assert plot([(0, 1.7e308, 0), (1, -1.7e308, 0)], 30, 5, ASCII)[0].startswith(" 1.7e+308 +*")


POINTS = st.tuples(
    st.integers(-(2**53), 2**53),
    st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)),
    st.just(0.0),
)


@given(
    points=st.lists(POINTS, max_size=30),
    width=st.integers(0, 120),
    height=st.integers(0, 30),
    charset=st.sampled_from([FINE, ASCII]),
)
def test_any_curve_fits_its_frame(points: list[Point], width: int, height: int, charset: Charset):
    lines = plot(points, width, height, charset)
    if not any(value is not None for _, value, _ in points):
        assert lines == []
        return
    assert len(lines) == max(height, LEAST_HEIGHT)
    room = max(width, LEAST_WIDTH)
    assert max(map(cell_len, lines[:-1])) <= room
    if charset is ASCII:
        assert all(line.isascii() for line in lines)


@pytest.mark.parametrize("charset", [FINE, ASCII])
def test_both_extremes_touch_the_frame(charset: Charset):
    lines = plot([(step, math.sin(step / 9), 0) for step in range(200)], 80, 12, charset)
    drawn = [set(line[9:]) - set(" ┤│+|") for line in lines]
    assert drawn[0]
    assert drawn[9]


def flat(lines: list[list[Cell]]) -> list[str]:
    return ["".join(text for text, _ in line) for line in lines]


def test_curves_over_each_other_have_letters_and_owners():
    rising, falling = [(at, float(at)) for at in range(20)], [(at, 19.0 - at) for at in range(20)]
    lines = overlay([rising, falling], 30, 8, ASCII)
    assert flat(lines)[0].endswith("aa")
    assert flat(lines)[5].endswith("bb")
    assert {owner for line in lines for _, owner in line} == {None, 0, 1}
    fine = flat(overlay([rising, falling], 30, 8))
    assert (fine[0][-1], fine[5][-1]) == ("a", "b"), "their ends are told apart without colour"
    assert all(len(line) == len(fine[0]) for line in fine[:6])


def test_a_logarithmic_scale_leaves_out_what_has_no_logarithm():
    curve = [(0, 100.0), (1, 1.0), (2, 0.01), (3, 0.0), (4, -1.0)]
    lines = flat(overlay([curve], 40, 9, ASCII, log=True, across=lambda x: f"{x:.0f}s"))
    assert (lines[0].split()[0], lines[6].split()[0], lines[-1].split()) == ("100", "0.01", ["0s", "4s"])
    assert "*" in lines[3], "1 is halfway from 0.01 to 100"
    assert overlay([[(0, -1.0)]], 40, 9, log=True) == overlay([[], []], 40, 9) == []
