from __future__ import annotations

import asyncio

import pytest

from fleet_client.errors import NotAuthenticated, NotFound, Unavailable, Unreachable
from fleet_protocol.errors import Code
from fleet_protocol.events import EventsFrame, SnapshotFrame
from fleet_protocol.logs import LogEnd, LogStart, LogTime
from fleet_tui.store import Store
from fleet_tui.transport import Waiting, follow_events, follow_log
from tests.tui.recorded import NOW, Recorded, events, job, refusal, snapshot

GONE = Unreachable("No answer from http://127.0.0.1:8490.")


class Naps:
    """Sleeps that take no time and are remembered."""

    def __init__(self) -> None:
        self.taken: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.taken.append(seconds)


async def test_a_broken_link_goes_on_after_the_cursor() -> None:
    told, store, naps = Recorded(), Store(), Naps()
    told.tell(snapshot([job("a")], cursor=100), GONE, events(job("a", "running"), first=101), GONE, GONE)
    told.tell(events(job("a", "completed"), first=102))

    got = []
    async for item in follow_events(told, lambda: store.cursor, sleep=naps):
        got.append(type(item))
        if not isinstance(item, Waiting):
            store.apply(item, NOW)
        if store.cursor == 102:
            break

    assert got == [SnapshotFrame, Waiting, EventsFrame, Waiting, Waiting, EventsFrame]
    assert [line for line in told.asked if line.startswith("events")] == [
        f"events after {cursor}" for cursor in (None, 100, 101, 101)
    ]


async def test_pauses_grow_to_a_limit_and_start_anew_after_a_word() -> None:
    told, naps = Recorded(), Naps()
    told.tell(*[GONE] * 7, snapshot([]), GONE, snapshot([]))
    feed = follow_events(told, lambda: None, sleep=naps)
    for _ in range(10):
        await anext(feed)

    assert naps.taken == [1.0, 1.0, 2.0, 3.0, 5.0, 5.0, 5.0, 1.0]


async def test_a_coordinator_that_is_busy_is_asked_again() -> None:
    told = Recorded()
    told.tell(Unavailable(refusal(Code.BUSY, 503, "Busy.")), snapshot([]))
    feed = follow_events(told, lambda: None, sleep=Naps())

    assert await anext(feed) == Waiting(1.0, "Busy.")
    assert isinstance(await anext(feed), SnapshotFrame)


async def test_a_refused_token_ends_the_feed() -> None:
    told = Recorded()
    told.tell(NotAuthenticated(refusal(Code.NOT_AUTHENTICATED, 401, "No.")))

    with pytest.raises(NotAuthenticated):
        await anext(follow_events(told, lambda: None, sleep=Naps()))


async def test_a_log_goes_on_at_the_byte_where_the_link_broke() -> None:
    told = Recorded()
    row = told.hold(job("a", "running"))[0]
    told.written[row.job_id] = b"history\n"
    queue = told.logs[row.job_id] = asyncio.Queue()
    for chunk in (b"live 1\n", GONE, b"live 2\n", None):
        queue.put_nowait(chunk)

    items = [item async for item in follow_log(told, row.job_id, sleep=Naps())]

    assert b"".join(item for item in items if isinstance(item, bytes)) == b"history\nlive 1\nlive 2\n"
    assert [type(item) for item in items if not isinstance(item, bytes)] == [
        LogStart,
        LogTime,
        Waiting,
        LogTime,
        LogEnd,
    ]
    assert told.asked == [f"log of {row.job_id} from None", f"log of {row.job_id} from 15"]


async def test_a_job_without_an_attempt_has_no_log() -> None:
    told = Recorded()
    row = told.hold(job("a"))[0]

    with pytest.raises(NotFound):
        await anext(follow_log(told, row.job_id, sleep=Naps()))
