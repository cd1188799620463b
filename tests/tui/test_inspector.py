"""What arrives late must not be shown under a job that it is not about."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from fleet_client.errors import NotFound, Unreachable
from fleet_protocol.errors import Code
from fleet_protocol.jobs import Explanation, JobDetail
from fleet_protocol.logs import LogEnd, LogStart, LogTime
from fleet_tui.facts import Link, link_line
from fleet_tui.inspector import Inspector
from fleet_tui.store import JobRow
from tests.tui.recorded import NOW, Recorded, attempt_of, job, refusal

OLD, NEW = JobRow(job("old", "running")), JobRow(job("new", "running"))


class Slow(Recorded):
    """Answers once it is let to: what it says then was asked for long ago."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.hold(OLD.job, NEW.job)
        self.error, self.asked_once, self.answers = error, asyncio.Event(), asyncio.Event()

    async def held(self) -> None:
        self.asked_once.set()
        await self.answers.wait()
        if self.error:
            raise self.error

    async def job(self, ref: str) -> JobDetail:
        await self.held()
        return await super().job(ref)

    async def follow_log(
        self,
        ref: str,
        *,
        offset: int | None = None,
        tail: int | None = None,
        attempt: str | None = None,
        times: bool = False,
    ) -> AsyncIterator[LogStart | LogTime | bytes | LogEnd]:
        await self.held()
        async for item in super().follow_log(ref, offset=offset, tail=tail, attempt=attempt, times=times):
            yield item


class SlowToExplain(Slow):
    async def job(self, ref: str) -> JobDetail:
        return await Recorded.job(self, ref)

    async def explain(self, ref: str) -> Explanation:
        await self.held()
        return await super().explain(ref)


def inspecting(grown: asyncio.Event | None = None) -> Inspector:
    inspector = Inspector(lambda: None, lambda dropped: grown.set() if grown else None)
    inspector.look_at(OLD)
    return inspector


NOT_FOUND = NotFound(refusal(Code.UNKNOWN_ATTEMPT, 404, "It has no attempt yet."))


async def test_a_log_that_goes_on_is_not_written_under_the_next_job() -> None:
    grown, told = asyncio.Event(), Recorded()
    inspector = inspecting(grown)
    told.hold(OLD.job, NEW.job)
    told.written[OLD.job.job_id] = b"first\n"
    told.logs[OLD.job.job_id] = asyncio.Queue()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(inspector.follow(told))
        await grown.wait()
        inspector.look_at(NEW)
        told.logs[OLD.job.job_id].put_nowait(b"of the old job\n")
        told.logs[OLD.job.job_id].put_nowait(None)
    assert (len(inspector.log), inspector.log_state) == (0, "")


async def test_a_log_that_goes_on_is_not_written_into_the_next_attempts() -> None:
    told, inspector = Slow(), inspecting()
    told.written[OLD.job.job_id] = b"of the old attempt\n"
    told.logs[OLD.job.job_id] = asyncio.Queue()
    told.logs[OLD.job.job_id].put_nowait(None)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(inspector.follow(told))
        await told.asked_once.wait()
        inspector.look_at(JobRow(OLD.job.model_copy(update={"attempt": attempt_of("again")})))
        told.answers.set()
    assert (len(inspector.log), inspector.log_state) == (0, "")


@pytest.mark.parametrize("error", [None, NOT_FOUND, Unreachable("Gone.")])
@pytest.mark.parametrize("coordinator", [Slow, SlowToExplain])
async def test_a_late_answer_says_nothing_of_the_next_job(
    coordinator: type[Slow], error: Exception | None
) -> None:
    told, inspector = coordinator(error), inspecting()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(inspector.load(told))
        await told.asked_once.wait()
        inspector.look_at(NEW)
        told.answers.set()
    assert (inspector.detail, inspector.why, inspector.trouble) == (None, None, [])


async def test_a_missing_log_is_not_missed_under_the_next_job() -> None:
    told, inspector = Slow(NOT_FOUND), inspecting()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(inspector.follow(told))
        await told.asked_once.wait()
        inspector.look_at(NEW)
        told.answers.set()
    assert inspector.log_state == ""


async def test_how_long_an_answer_takes_is_shown_where_it_is_felt() -> None:
    told, times = Recorded(), iter([1.0, 1.25])
    row = told.hold(job("cnn", "running"))[0]
    inspector = Inspector(lambda: None, lambda _: None, lambda: next(times))
    inspector.look_at(JobRow(row))
    await inspector.load(told)
    assert link_line(Link("live"), None, NOW, inspector.round_trip)[1][0] == " · answers in 0.2s"
    assert len(link_line(Link("live"), None, NOW, 0.09)) == 1
