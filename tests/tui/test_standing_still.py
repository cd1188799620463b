"""A screen that stands still, ranges of marks, and jobs under headings."""

from __future__ import annotations

import asyncio

import pytest
from textual.events import Key

from fleet_tui.app import FleetTui
from fleet_tui.settings import Settings
from tests.tui.driver import Dashboard, dashboard
from tests.tui.recorded import NOW, Recorded, before, events, gesture_lab, job, snapshot, worker

SIZES = pytest.mark.parametrize(("width", "height"), [(120, 36), (80, 24)])


def telling(*names: str) -> Recorded:
    told = Recorded()
    rows = told.hold(*(job(name, "running", queued_at=before(900 - at)) for at, name in enumerate(names)))
    told.tell(snapshot(rows, [worker("pi")]))
    return told


def standing(shown: Dashboard) -> list[str]:
    """All below the header, but for how long the log has become meanwhile."""
    return [line.rstrip(" ▁▂▃▄▅▆▇█") for line in shown.lines[1:] if "f follows" not in line]


@SIZES
async def test_the_screen_stands_still_while_all_goes_on_arriving(width: int, height: int) -> None:
    told = telling("a", "b")
    first = told.jobs[job("a").job_id]
    told.written[first.job_id] = b"".join(b"line %d\n" % at for at in range(60))
    told.logs[first.job_id] = asyncio.Queue()
    clock = [NOW]
    app = FleetTui(told, clock=lambda: clock[0])
    async with app.run_test(size=(width, height)) as pilot:
        shown = Dashboard(app, pilot, told)
        await shown.until("line 59")
        await shown.press("P")
        await shown.until("paused 0s · ● live")
        stood = standing(shown)

        told.tell(events(job("a", "completed"), *told.hold(job("c", "running")), first=101))
        told.logs[first.job_id].put_nowait(b"line 60\n")
        await shown.until(lambda: len(app.store.jobs) == 3 and len(app.inspector.log) == 61)
        clock[0] = before(-7)
        await shown.until("paused 7s · ● live")
        assert standing(shown) == stood
        await shown.press("2", "1")
        assert shown.names == ["a", "b"]

        await shown.press("P")
        await shown.until(lambda: set(shown.names) == {*"abc"} and "paused" not in shown.text)


async def test_an_order_is_carried_out_while_the_screen_stands_still() -> None:
    told = telling("a", "b")
    async with dashboard(told) as shown:
        await shown.until("● 2 running")
        await shown.press("P", "x")
        await shown.until("Cancel this job?")
        await shown.press("y")
        await shown.until("✓ cancelled a")
        assert "● 2 running" in shown.text
        await shown.press("P")
        await shown.until("⊘ 1 cancelled")


@SIZES
async def test_a_range_is_marked_shrinks_and_grows_until_it_is_closed(width: int, height: int) -> None:
    told = telling(*"abcdef")
    ids = [job(name).job_id for name in "abcdef"]
    async with dashboard(told, width=width, height=height) as shown:
        await shown.until("● 6 running")
        await shown.press("space", "j", "V", "j", "j")
        await shown.until("V +4")
        assert shown.app.board.rows.marked == {ids[0], *ids[2:5]}
        await shown.press("k")
        await shown.until("V +3")
        await shown.press("V", "G", "x")
        await shown.until("Cancel these 3 jobs?")
        await shown.press("n")
        await shown.until(lambda: shown.app.board.rows.marked == {ids[0], ids[2], ids[3]})
        await shown.press("V", "k", "escape")
        await shown.until(lambda: not shown.app.board.rows.marked and "+" not in shown.lines[2])


@SIZES
async def test_jobs_stand_under_headings_and_orders_are_for_jobs(width: int, height: int) -> None:
    async with dashboard(gesture_lab(), width=width, height=height) as shown:
        await shown.until("cnn-oracle")
        await shown.press("b")
        await shown.until("sort status by model")
        await shown.until("transformer  × 3")
        await shown.press("b", "g")
        await shown.until("workstation  × 3")
        await shown.press("b")
        await shown.until("running  × 3")
        assert shown.app.settings.group == "status"
        await shown.press("3", "b", "1", "b")
        await shown.until(lambda: " × " not in shown.text and len(shown.names) >= 9)


async def test_headings_are_as_they_were_left() -> None:
    app = FleetTui(gesture_lab(), clock=lambda: NOW, settings=Settings(group="model", sort="name"))
    async with app.run_test(size=(120, 36)) as pilot:
        await Dashboard(app, pilot, gesture_lab()).until("sort name by model")


async def test_the_last_line_has_the_keys_of_what_is_read() -> None:
    async with dashboard(gesture_lab(), width=80, height=24) as shown:
        await shown.until("cnn-oracle")
        assert "x cancel" in shown.lines[-1]
        await shown.press("tab")
        await shown.until("Esc back   f follow   & only lines with   @ to a time   w wrap")
        await shown.press("slash")
        await shown.until("⏎ keep it")
        await shown.press("escape", "escape")
        await shown.until("⏎ open   / filter")


async def test_a_list_that_was_out_of_sight_is_drawn_at_its_width() -> None:
    told = telling("a", "b")
    async with dashboard(told, width=100, height=28) as shown:
        await shown.until("● 2 running")
        await shown.press("5")
        await shown.until("Nothing has happened yet.")
        for key in "1bP":  # faster than the screen is laid out
            shown.app.post_message(Key(key, key))
        await shown.until("paused")
        await shown.until("gbt  × 2")
        assert "PROGRESS · RESULT" in shown.text
