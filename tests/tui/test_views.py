"""Keys of the views beyond the list of jobs: failures as groups, workers, curves over each other, events."""

from __future__ import annotations

import asyncio

import pytest

from tests.tui.driver import dashboard
from tests.tui.recorded import Recorded, events, job, snapshot, worker

SIZES = pytest.mark.parametrize(("width", "height"), [(120, 36), (80, 24)])


def failures() -> Recorded:
    told = Recorded()
    reasons = {"a": "loss is nan at step 3", "b": "KeyError: 'x'", "c": "loss is nan at step 9"}
    rows = told.hold(*(job(name, "failed", reason=why) for name, why in reasons.items()))
    for row in rows:
        told.written[row.job_id] = b"".join(b"%s %d\n" % (row.name.encode(), at) for at in range(30))
        told.logs[row.job_id] = asyncio.Queue()
        told.logs[row.job_id].put_nowait(None)
    told.tell(snapshot(rows, [worker("pi")]))
    return told


def asked(told: Recorded, verb: str) -> list[str]:
    return [line.split()[1] for line in told.asked if line.startswith(verb + " ")]


@SIZES
async def test_a_group_is_requeued_at_once_and_stays_in_sight(width: int, height: int) -> None:
    told = failures()
    async with dashboard(told, width=width, height=height) as shown:
        await shown.until("✗ 3")
        await shown.press("2")
        await shown.until("loss is nan at step …  × 2  1m ago  all 2 on pi")
        await shown.press("R")
        await shown.until("Requeue these 2 jobs?")
        late = job("late", "failed", reason="loss is nan at step 4")
        told.tell(events(*told.hold(late), first=101))
        await shown.press("y")
        await shown.until("✓ requeued 2 jobs")
        assert asked(told, "requeue") == [job(name).job_id for name in "ac"]
        await shown.until("handled: requeued, not over yet  × 2")
        assert set(shown.names) == {"late", "b", "a", "c"}

        told.tell(events(job("a", "completed"), first=5000))
        await shown.until("handled: requeued, not over yet  × 1")
        again = job("c", "failed", reason="loss is nan at step 8")
        told.tell(events(again, first=5001))
        await shown.until(lambda: "handled" not in shown.text)
        assert set(shown.names) == {"late", "b", "c"}


@SIZES
async def test_the_next_failure_is_read_without_going_back(width: int, height: int) -> None:
    async with dashboard(failures(), width=width, height=height) as shown:
        await shown.until("✗ 3")
        await shown.press("2", "enter")
        await shown.until("a 29")
        await shown.press("J")
        await shown.until("c 29")
        first = 10 if height > 30 else 20
        assert f"c {first}" in shown.text, "the last lines, twenty where there is room"
        await shown.press("J", "J", "K")
        await shown.until("c 29")
        assert shown.pager.has_focus


async def test_a_log_that_is_not_at_hand_is_replaced_by_what_the_worker_told() -> None:
    told = failures()
    row = told.jobs[job("a").job_id]
    del told.written[row.job_id], told.logs[row.job_id]
    full = await told.job(row.job_id)
    tail = "".join(f"line {at}\n" for at in range(40))
    last = full.history[0].model_copy(update={"tail": tail + "\x1b[31mthe end\n"})
    told.details[row.job_id] = full.model_copy(update={"history": (last,)})
    async with dashboard(told) as shown:
        await shown.until("✗ 3")
        await shown.press("2")
        await shown.until("its last lines, as the worker told them")
        await shown.until("the end")
        assert "line 20" not in shown.text


@SIZES
async def test_a_worker_is_drained_and_resumed(width: int, height: int) -> None:
    told, box = Recorded(), worker("pi")
    told.machines[box.worker] = box
    told.tell(snapshot([], [box, worker("desk", number=2, draining=True)]))
    async with dashboard(told, width=width, height=height) as shown:
        await shown.until("● live")
        await shown.press("3")
        await shown.until("◌ draining")
        await shown.press("D")
        await shown.until("✗ desk: is drained already")
        await shown.press("j", "D")
        await shown.until("Drain this worker?")
        await shown.until("it gets no new jobs until it is resumed")
        assert not asked(told, "drain")
        await shown.press("y")
        await shown.until("✓ takes no new jobs any more: pi")
        await shown.until(lambda: shown.text.count("◌ draining") >= 2)
        await shown.press("U")
        await shown.until("Resume this worker?")
        await shown.press("y")
        await shown.until("✓ takes jobs again: pi")
        assert asked(told, "drain") == asked(told, "resume") == [box.worker]


async def test_who_may_only_look_is_told_so_by_the_workers_too() -> None:
    told = Recorded(read_only=True)
    told.tell(snapshot([], [worker("pi")]))
    async with dashboard(told) as shown:
        await shown.until("● live")
        await shown.press("3", "D")
        await shown.until("orders need the operator's token")
