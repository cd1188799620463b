from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_client import folding
from fleet_client.folding import HELD_LINES, Fold


def folded(*chunks: bytes, held: int = HELD_LINES, colours: bool = False) -> list[str]:
    fold = Fold(held, colours=colours)
    return [line for chunk in chunks for line in fold.feed(chunk)] + fold.finish()


@pytest.mark.parametrize(
    ("log", "lines"),
    [
        (b"", []),
        (b"a\nb", ["a", "b"]),
        (b"a\n\nb\n", ["a", "", "b"]),
        (b"a\r\nb\r\r\n", ["a", "b"]),
        (b" 10%\r 50%\r100%\ndone\n", ["100%", "done"]),
        (b"a long line\rshort\n", ["short"]),
        (b" 10%\r", [" 10%"]),
        (b"gone\r\x1b[K\nx\x1b[2Ky\n", ["", "y"]),
        (b"a -\x08\\\x08|\x08/\n", ["a /"]),
        (b"\xff\xfe bad \xc3\n", ["\ufffd\ufffd bad \ufffd"]),
        (b"cut \xc3", ["cut \ufffd"]),
        (b"\x00nul\x00 and\x07 bell\n", ["nul and bell"]),
        (b"\x1b[31mred\x1b[0m \x1b]52;c;aGk=\x07\x1b]0;title\x1b\\\x1bPq\x1b\\\x1b(Bend\n", ["red end"]),
        (b"\x1b[2J\x1b[H\x1b[?25lclean\n", ["clean"]),
        ("\u009b31m \u202etxt.exe \u200b\u2028z\n".encode(), [" txt.exe z"]),
        (b"\x1b]0;never ended\nnext\n", ["", "next"]),
        (b"tab\tbed\n", ["tab\tbed"]),
    ],
)
def test_what_is_left_of_a_log(log: bytes, lines: list[str]):
    assert folded(log) == lines
    assert folded(*(log[at : at + 1] for at in range(len(log)))) == lines


def test_colours_may_stay():
    assert folded(b"\x1b[31mred\x1b[0m\x1b[2J\n", colours=True) == ["\x1b[31mred\x1b[0m"]
    assert folded(b"\x1b[31m10%\r\x1b[32m20%\n", colours=True) == ["\x1b[32m20%"]


BARS = (
    b"epoch:   0%|   | 0/2\n\rbatch:   0%|   | 0/9\x1b[A\n\rbatch: 100%|###| 9/9\x1b[A\n\r             \r\x1b[A"
    b"\repoch:  50%|#  | 1/2\n\rbatch:  50%|#  | 5/9\x1b[A\n\r             \r\x1b[A\repoch: 100%|###| 2/2\n"
)


def test_nested_progress_bars_show_their_last_state():
    lines = [line for line in folded(b"start\n" + BARS + b"done\n") if line.strip()]
    assert lines == ["start", "epoch: 100%|###| 2/2", "done"]


def test_what_is_not_held_comes_out_at_once_until_something_is_redrawn():
    fold = Fold(0)
    assert fold.feed(b"a\nb\nc") == ["a", "b"]
    assert fold.feed(b"\n\x1b[Aouter 1") == ["c"]
    lines = [*fold.feed(BARS * 2), *fold.finish()]
    assert len([line for line in lines if "epoch" in line]) == 2
    assert fold.feed(b"anew") == []
    assert fold.finish() == ["anew"]


def test_a_line_without_end_is_broken():
    lines = folded(b"x" * 3 * folding.LINE_CHARS + b"yy\n")
    assert [len(line) for line in lines] == [folding.LINE_CHARS] * 3 + [2]


PIECES = [
    b"a",
    b"bcd",
    b"\n",
    b"\r",
    b"\r\n",
    b"\x08",
    b"\x1b[A",
    b"\x1b[2A",
    b"\x1b[B",
    b"\x1b[K",
    b"\x1b[2K",
]
MORE = [
    b"\x1b[1m",
    b"\x1b]0;t\x07",
    b"\x1b]0;",
    b"\x1b",
    b"\xc3\xa9",
    b"\xff",
    b"\0",
    b"long" * 9,
    b"\t",
    b"\x1b[99",
]


@given(
    st.lists(st.sampled_from(PIECES + MORE), max_size=40),
    st.lists(st.integers(0, 200), max_size=8),
    st.sampled_from([0, 1, HELD_LINES]),
)
def test_any_split_of_the_bytes_gives_the_same_lines(pieces: list[bytes], cuts: list[int], held: int):
    whole = b"".join(pieces)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folding, "LINE_CHARS", 16)
        at = sorted({min(cut, len(whole)) for cut in cuts} | {0, len(whole)})
        chunks = [whole[a:b] for a, b in pairwise(at)]
        assert folded(*chunks, held=held) == folded(whole, held=held)
        assert all(len(line) <= 16 and "\x1b" not in line for line in folded(whole))


@given(st.lists(st.lists(st.text("abc 1%", min_size=1), min_size=1), max_size=60))
def test_the_last_state_of_every_line_is_there(drawn: list[list[str]]):
    log = "".join("\r".join(states) + "\n" for states in drawn).encode()
    assert folded(log) == [states[-1] for states in drawn]
