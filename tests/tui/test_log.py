from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fleet_client import folding
from fleet_tui.log import LogText


def read(*chunks: bytes) -> list[str]:
    text = LogText()
    for chunk in chunks:
        text.feed(chunk)
    return [text[at] for at in range(len(text))]


def test_a_progress_bar_is_one_line_that_shows_its_last_state() -> None:
    assert read(b"start\n 10%|#\r 50%|###\r100%|####\ndone\n") == ["start", "100%|####", "done"]


def test_the_line_still_being_written_is_shown() -> None:
    assert read(b"a\n 10%\r 20%") == ["a", " 20%"]
    assert read(b"a\n 10%\r") == ["a", " 10%"]


def test_windows_line_ends_are_line_ends() -> None:
    assert read(b"a\r\nb\r", b"\nc\r\r\n") == ["a", "b", "c"]


def test_escapes_are_taken_out_even_when_a_chunk_ends_inside_one() -> None:
    assert read(b"\x1b[3", b"1mred\x1b[0m \x1b]52;c;aGk=", b"\x07end\n") == ["red end"]


def test_broken_utf_8_is_shown_as_such_and_a_split_letter_is_whole() -> None:
    assert read("é".encode()[:1], "é".encode()[1:] + b"\n\xff\n") == ["é", "�"]


def test_an_endless_line_becomes_lines() -> None:
    lines = read(b"x" * (folding.LINE_CHARS + 5))

    assert [len(line) for line in lines] == [folding.LINE_CHARS, 5]


def test_the_oldest_lines_go_and_are_counted() -> None:
    text = LogText(limit=100)
    dropped = sum(text.feed(b"%d\n" % number) for number in range(500))

    assert len(text) + dropped == 500
    assert text[len(text) - 1] == "499"
    assert len(text) <= 111 + folding.HELD_LINES


def test_what_is_missing_has_a_line() -> None:
    text = LogText()
    text.feed(b"a\n 10%")
    text.note("[missing]")
    text.feed(b"b\tc\n")
    assert [text[at] for at in range(len(text))] == ["a", " 10%", "[missing]", "b       c"]


pieces = st.lists(
    st.sampled_from([b"a", b"\n", b"\r", b"\x1b[1m", "é".encode(), b"long" * 9, b"\t"]), max_size=30
)


@given(pieces, st.data())
def test_any_split_of_the_bytes_gives_the_same_lines(parts: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    chunks = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]

    assert read(*chunks) == read(whole)


@given(st.lists(st.sampled_from([b"a" * 7, b"\r", b"\n", b"b" * 20]), max_size=20), st.data())
def test_also_where_lines_are_longer_than_is_kept(parts: list[bytes], data: st.DataObject) -> None:
    before, folding.LINE_CHARS = folding.LINE_CHARS, 16
    try:
        whole = b"".join(parts)
        cut = data.draw(st.integers(0, len(whole)))
        assert read(whole[:cut], whole[cut:]) == read(whole)
    finally:
        folding.LINE_CHARS = before
