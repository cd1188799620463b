"""Keys of the views beyond the list of jobs: failures as groups, workers, curves over each other, events."""

from __future__ import annotations

import asyncio

import pytest

from fleet_protocol.capability import Gpu
from fleet_protocol.events import Event, EventsFrame, LiveFrame
from fleet_protocol.metrics import JobMetrics, Reading
from fleet_protocol.workers import Gauges, GpuGauge
from fleet_tui.curves import smoothed
from tests.tui.driver import dashboard
from tests.tui.recorded import NOW, Recorded, attempt_of, before, events, job, snapshot, worker
from tests.tui.test_screens import same_as

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
        await shown.press("escape")
        await shown.until(lambda: shown.app.board.rows.has_focus and not shown.app.board.has_class("opened"))


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


def training() -> Recorded:
    told = Recorded()
    rows = told.hold(*(job(name, "running") for name in ("a", "b", "c")))
    for at, row in enumerate(rows[:2], 1):
        loss: tuple[Reading, ...] = tuple((step, at / step, 1000.0 + 60 * step) for step in range(1, 40))
        series: dict[str, tuple[Reading, ...]] = {"loss": loss} | (
            {"accuracy": ((1, 0.5, 1000.0), (2, -0.25, 1060.0))} if at == 1 else {}
        )
        told.curves[row.job_id] = JobMetrics(job_id=row.job_id, attempt=attempt_of(row.name), series=series)
    told.tell(snapshot(rows, [worker("pi")]))
    return told


@SIZES
async def test_curves_of_marked_jobs_over_each_other(width: int, height: int) -> None:
    told = training()
    async with dashboard(told, width=width, height=height) as shown:
        await shown.until("● 3 running")
        await shown.press("4")
        await shown.until("0.026 at step 39")
        await shown.until("loss  1 of 2 · over steps")
        await shown.press("space", "space", "space")
        await shown.until("b  b")
        await shown.until("no metrics yet")
        assert len([line for line in told.asked if line.startswith("metrics of")]) == 3, (
            "what is known is not asked for again"
        )
        await same_as(f"metrics-{width}x{height}", shown)
        await shown.press("L", "o", "T")
        await shown.until("logarithmic · smoothed 0.6 · over time")
        await shown.press("n")
        await shown.until("accuracy  2 of 2")
        await shown.until("does not tell this")
        await shown.press("enter")
        await shown.until(lambda: shown.app.board.has_class("opened"))
        await shown.press("escape")
        told.curves[job("a").job_id] = told.curves[job("b").job_id]
        told.tell(LiveFrame(server_time=NOW, metric_points={attempt_of("a"): 3}))
        await shown.until("loss  logarithmic")
        await shown.press("1")
        await shown.until("PROGRESS")


def test_smoothing_weighs_what_came_before() -> None:
    readings = [(step, value, 0.0) for step, value in enumerate((1.0, None, 0.0, 0.0))]
    assert smoothed(readings, 0.0) == [1.0, None, 0.0, 0.0]
    first, gap, *rest = smoothed(readings, 0.5)
    assert (first, gap) == (1.0, None)
    assert rest == pytest.approx([1 / 3, 1 / 7])


@SIZES
async def test_a_workers_load_is_drawn_and_never_shown_once_it_is_old(width: int, height: int) -> None:
    told, box = Recorded(), worker("pi")
    gpu = Gpu(kind="cuda", name="RTX 3060", vram_gib=12)
    box = box.model_copy(update={"capability": box.capability.model_copy(update={"gpus": (gpu,)})})
    told.tell(snapshot(told.hold(job("a", "running", worker="pi")), [box]))
    for percent in range(0, 100, 7):
        card = GpuGauge(busy_pct=100 - percent, vram_used_gib=percent / 9, temperature_c=71)
        load = Gauges(cpu_pct=percent, ram_used_gib=4.2, disk_free_gib=100, gpus=(card,))
        told.tell(LiveFrame(server_time=NOW, gauges={box.worker: load}))
    async with dashboard(told, width=width, height=height) as shown:
        await shown.until("● 1 running")
        await shown.press("3")
        await shown.until("98%")
        await shown.until("10.9 of 12 GiB")
        await same_as(f"load-{width}x{height}", shown)
        told.tell(snapshot([], [box.model_copy(update={"last_heard_at": before(95)})]))
        await shown.until("unknown: last heard 1m ago")
        assert "98%" not in shown.text


@SIZES
async def test_events_come_newest_first_are_filtered_and_open_their_job(width: int, height: int) -> None:
    told = Recorded()
    rows = told.hold(job("a", "running"), job("b", "running"))
    told.written[rows[0].job_id] = b"what a says\n"
    told.tell(snapshot(rows, [worker("pi")]))
    kinds = (("a", "failed", "agent:pi"), ("b", "completed", "agent:pi"), ("a", "requeued", "operator"))
    made = [
        Event(
            event=at,
            at=before(90 - at % 100),
            kind=kind,
            actor=actor,
            detail=f"why {kind}",
            job=job(name, "running"),
        )
        for at, (name, kind, actor) in enumerate(kinds, 101)
    ]
    told.tell(EventsFrame(cursor=103, events=tuple(made)))
    async with dashboard(told, width=width, height=height) as shown:
        await shown.until("● 2 running")
        await shown.press("5")
        await shown.until("why requeued")
        seen = [kind for line in shown.lines for _, kind, _ in kinds if f"why {kind}" in line]
        assert seen == ["requeued", "completed", "failed"]
        await same_as(f"events-{width}x{height}", shown)
        await shown.press("slash", *"kind:fail", "enter")
        await shown.until(lambda: "why requeued" not in shown.text)
        await shown.press("enter")
        await shown.until("what a says")
        await shown.until(lambda: shown.app.board.has_class("opened") and shown.pager.has_focus)
