from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from fleet_tui.text import fit, line_width, one_line, plain, spread, wrapped

ATTACKS = {
    "colour": ("\x1b[31mred\x1b[0m", "red"),
    "clipboard": ("\x1b]52;c;aGVsbG8=\x07x", "x"),
    "title": ("\x1b]0;owned\x1b\\x", "x"),
    "device control": ("\x1bPq#0;2;0;0;0\x1b\\x", "x"),
    "eight-bit CSI": ("\x9b2Jx", "x"),
    "unfinished sequence": ("a\x1b]52;c;aGVs", "a52;c;aGVs"),
    "NUL and bell": ("a\x00b\x07c", "abc"),
    "right-to-left override": ("user\u202etxt.exe", "usertxt.exe"),
    "isolates and zero width": ("a\u2066\u200bb\ufeff", "ab"),
    "half a surrogate": ("a\ud800b", "ab"),
    "line separator": ("a\u2028b", "ab"),
    "markup is only text": ("[/bold] [@click=app.quit]x[/]", "[/bold] [@click=app.quit]x[/]"),
    "wide": ("模型 é", "模型 é"),
}


@pytest.mark.parametrize(("hostile", "harmless"), ATTACKS.values(), ids=ATTACKS)
def test_nothing_but_text_reaches_the_terminal(hostile: str, harmless: str) -> None:
    assert plain(hostile) == harmless


@given(st.text(alphabet=st.characters(exclude_categories=()), max_size=60))
def test_no_text_at_all_gets_a_control_character_through(text: str) -> None:
    shown = one_line(text)

    assert not any(ord(char) < 32 or 0x7F <= ord(char) < 0xA0 for char in shown)
    shown.encode()


@given(st.text(max_size=30).map(one_line), st.integers(0, 40), st.booleans())
def test_a_cell_is_exactly_as_wide_as_its_column(text: str, width: int, right: bool) -> None:
    assert cell_len(fit(text, width, right=right)) == width


def test_what_is_cut_says_so() -> None:
    assert fit("transformer", 6) == "trans…"
    assert fit("12s", 6, right=True) == "   12s"


def test_wrapping_breaks_at_spaces_and_cuts_only_long_words() -> None:
    assert wrapped("needs CUDA with twelve", 10) == ["needs CUDA", "with", "twelve"]
    assert wrapped("abcdefghij kl", 4) == ["abcd", "efgh", "ij", "kl"]


def test_where_both_ends_meet_the_left_one_gives_way() -> None:
    line = spread([("a long beginning", "plain")], [("end", "dim")], 10)

    assert "".join(text for text, _ in line) == "a long…end"
    assert line_width(line) == 10
