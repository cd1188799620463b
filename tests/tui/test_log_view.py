"""Reading a log by keys: search, filter, wrap, times, earlier attempts, saving."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fleet_tui.log import LogText
from tests.tui.driver import Dashboard, dashboard
from tests.tui.recorded import Recorded, attempt, before, detail, job, snapshot, uuid

LINES = [f"step {number} {'warn ' * (number % 50 == 7)}{'x' * 150 * (number == 3)}" for number in range(200)]


def read_lines(path: Path) -> list[str]:
    return path.read_text("utf-8").splitlines()


@asynccontextmanager
async def reading(width: int = 120, height: int = 36) -> AsyncIterator[Dashboard]:
    """A running job of two attempts, its log in the whole window."""
    told = Recorded()
    row = told.hold(job("cnn", "running", attempts=2))[0]
    first = attempt(row, 1, attempt=uuid(9), status="failed", ended_at=before(100))
    told.details[row.job_id] = detail(row, history=(first, attempt(row, 2)))
    told.written[row.job_id] = "".join(f"{line}\n" for line in LINES).encode()
    told.earlier[uuid(9)] = b"the first try\nMemoryError\n"
    told.tell(snapshot([row]))
    async with dashboard(told, width=width, height=height) as shown:
        await shown.until("attempt 2 of 3")
        await shown.press("enter")
        await shown.until("step 199")
        yield shown


SIZES = pytest.mark.parametrize("size", [(80, 24), (120, 36)])


@SIZES
async def test_search_goes_from_match_to_match_and_says_when_there_is_none(size: tuple[int, int]) -> None:
    async with reading(*size) as shown:
        await shown.press("slash", *"warn", "enter")
        await shown.until("/warn")
        top = shown.pager.reading.at(shown.pager.scroll_offset.y)[0]
        assert "warn" in LINES[top]
        await shown.press("n")
        await shown.until(lambda: shown.pager.reading.at(shown.pager.scroll_offset.y)[0] != top)
        await shown.press("N")
        await shown.until(lambda: shown.pager.reading.at(shown.pager.scroll_offset.y)[0] == top)
        await shown.press("slash", *"nowhere", "enter")
        await shown.until("nothing has nowhere")


@SIZES
async def test_only_lines_with_a_word_and_their_neighbours(size: tuple[int, int]) -> None:
    async with reading(*size) as shown:
        await shown.press("ampersand", *"warn", "enter")
        await shown.until("only warn")
        assert shown.pager.rows == 4 * 5
        await shown.press("ampersand", *"!step", "enter")
        await shown.until(lambda: shown.pager.rows == 0)
        await shown.press("ampersand", "enter")
        await shown.until(lambda: shown.pager.rows == 200)


@SIZES
async def test_wrapping_and_times_leave_the_reader_where_he_is(size: tuple[int, int]) -> None:
    async with reading(*size) as shown:
        await shown.press("g", "j", "j", "w")
        await shown.until(lambda: shown.pager.rows > 200)
        await shown.until(lambda: shown.pager.reading.at(shown.pager.scroll_offset.y) == (2, 0))
        await shown.press("t")
        stamp = before(60).astimezone().strftime("%H:%M:%S step 2")
        await shown.until(stamp)
        await shown.press("w", "t")
        await shown.until(lambda: shown.pager.rows == 200 and stamp not in shown.text)


async def test_to_a_time_and_what_is_none() -> None:
    async with reading() as shown:
        await shown.press("at", *"soon", "enter")
        await shown.until("that is no time")
        await shown.press("at", *"1h", "enter")
        await shown.until(lambda: shown.pager.scroll_offset.y == 0)


async def test_earlier_attempts_and_back() -> None:
    async with reading() as shown:
        await shown.press("p")
        await shown.until("log of attempt 1 on pi, failed")
        await shown.until("MemoryError")
        await shown.press("p")
        await shown.until("there is no earlier attempt")
        await shown.press("P")
        await shown.until("step 199")


async def test_the_whole_log_and_what_is_shown_are_saved_and_nothing_is_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with reading() as shown:
        await shown.press("S")
        await shown.until("as cnn-2.log")
        await shown.press("ampersand", *"warn", "enter")
        await shown.until("only warn")
        await shown.press("ctrl+s")
        await shown.until("as cnn-2-1.log")
    assert read_lines(tmp_path / "cnn-2.log") == LINES
    assert len(read_lines(tmp_path / "cnn-2-1.log")) == 20


async def test_typing_for_the_text_leaves_the_list_alone() -> None:
    async with reading() as shown:
        await shown.press("slash", *"zzz")
        await shown.press("escape")
        await shown.until(lambda: shown.pager.has_focus)
        assert shown.app.board.rows.entries


def log_of(name: str, lines: int) -> LogText:
    log = LogText()
    log.feed(b"".join(b"%s line %d\n" % (name.encode(), at) for at in range(lines)))
    return log


async def test_a_log_is_opened_at_its_end_though_it_is_shorter_than_the_one_before_and_still_comes():
    async with reading() as shown:
        long, short = log_of("long", 2000), log_of("short", 500)
        shown.pager.show(long, follow=True)
        await shown.until("long line 1999")
        shown.pager.show(short, follow=True)
        short.feed(b"short's last line\n" * 500)
        shown.pager.grown()
        await shown.until("short's last line")
        assert shown.pager.following
