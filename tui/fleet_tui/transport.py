"""What the dashboard asks of a coordinator, and the two feeds that survive its restarts.

`Coordinator` is the seam: `fleet_client.FleetClient` is one, and so is a test's recording.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from fleet_client.errors import BadAnswer, FleetError, NotAuthenticated, NotFound, NotPermitted
from fleet_protocol.events import EventPage
from fleet_protocol.jobs import Explanation, JobDetail, JobView
from fleet_protocol.logs import LogEnd, LogHole, LogStart, LogTime
from fleet_protocol.metrics import JobMetrics
from fleet_protocol.plan import Plan
from fleet_protocol.workers import WorkerView
from fleet_tui.store import Frame

if TYPE_CHECKING:
    from fleet_client.client import LogChunk

LogMessage = LogStart | bytes | LogHole | LogTime | LogEnd
Sleep = Callable[[float], Awaitable[None]]
PAUSES = (1.0, 1.0, 2.0, 3.0, 5.0)
"""Seconds before each new try; the last one is kept. Short: somebody is looking at it."""

TAIL_LINES = 2000
"""How far back a log is read when it is opened."""


class Coordinator(Protocol):
    """The part of the client that the dashboard uses; everything raises `FleetError`s only."""

    def events(self, after: int | None = None) -> AsyncIterator[Frame]: ...

    async def history(self, before: int, *, limit: int = 500) -> EventPage: ...

    def follow_log(
        self,
        ref: str,
        *,
        offset: int | None = None,
        tail: int | None = None,
        attempt: str | None = None,
        times: bool = False,
    ) -> AsyncIterator[LogMessage]: ...

    async def read_log(
        self, ref: str, *, offset: int | None = None, attempt: str | None = None
    ) -> LogChunk: ...

    async def job(self, ref: str) -> JobDetail: ...

    async def explain(self, ref: str) -> Explanation: ...

    async def metrics(self, ref: str, *, points: int | None = None) -> JobMetrics: ...

    async def cancel(self, ref: str, reason: str = "") -> JobView: ...

    async def requeue(self, ref: str, reason: str = "") -> JobView: ...

    async def drain(self, worker: str, reason: str = "") -> WorkerView: ...

    async def resume(self, worker: str, reason: str = "") -> WorkerView: ...

    async def plan(self) -> Plan: ...

    async def reload(self) -> Plan: ...


class Access(Protocol):
    """The way to a coordinator."""

    url: str

    @property
    def read_only(self) -> bool: ...

    def renew(self) -> bool:
        """Look for another token after one was refused; True when there is one."""
        ...

    def connect(self) -> AbstractAsyncContextManager[Coordinator]: ...


@dataclass(frozen=True, slots=True)
class Waiting:
    """No link. Another try follows in `seconds`; `why` is the last error in a sentence."""

    seconds: float
    why: str


def pause(tries: int) -> float:
    return PAUSES[min(tries, len(PAUSES)) - 1]


async def follow_events(
    coordinator: Coordinator, cursor: Callable[[], int | None], *, sleep: Sleep = asyncio.sleep
) -> AsyncIterator[Frame | Waiting]:
    """Frames for ever; `Waiting` between connections. Each one goes on after `cursor()`.

    A token that is refused ends it: NotAuthenticated or NotPermitted.
    """
    tries = 0
    while True:
        why = "the coordinator closed the connection"
        try:
            async for frame in coordinator.events(cursor()):
                tries = 0
                yield frame
        except (NotAuthenticated, NotPermitted):
            raise
        except BadAnswer as error:
            why = f"It may be of another version: fleet-server --version. {error}"
        except FleetError as error:
            why = str(error)
        tries += 1
        yield Waiting(pause(tries), why)
        await sleep(pause(tries))


async def follow_log(
    coordinator: Coordinator, job_id: str, attempt: str | None = None, *, sleep: Sleep = asyncio.sleep
) -> AsyncIterator[LogMessage | Waiting]:
    """One attempt's log: its last lines, then what comes, without a seam over broken connections.

    Of the current attempt, else the last one, where none is named. Ends after `LogEnd`. A job that never ran has
    no log: NotFound.
    """
    start: LogStart | None = None
    received = 0
    tries = 0
    while True:
        why = "the coordinator closed the connection"
        try:
            stream = (
                coordinator.follow_log(job_id, tail=TAIL_LINES, attempt=attempt, times=True)
                if start is None
                else coordinator.follow_log(
                    job_id, offset=start.offset + received, attempt=start.attempt, times=True
                )
            )
            async for message in stream:
                tries = 0
                match message:
                    case LogStart():
                        if start is not None:
                            continue
                        start = message
                    case bytes():
                        received += len(message)
                    case LogHole():
                        received += message.length
                yield message
                if isinstance(message, LogEnd):
                    return
        except (NotAuthenticated, NotPermitted, NotFound):
            raise
        except FleetError as error:
            why = str(error)
        tries += 1
        yield Waiting(pause(tries), why)
        await sleep(pause(tries))


async def whole_log(coordinator: Coordinator, job_id: str, attempt: str | None) -> AsyncIterator[bytes]:
    """Every byte the coordinator has of it now; what is missing reads as nothing."""
    offset, length = 0, 1
    while offset < length:
        chunk = await coordinator.read_log(job_id, offset=offset, attempt=attempt)
        data = chunk.data
        for start, end in reversed(chunk.holes):
            data = data[: max(0, start - chunk.offset)] + data[max(0, end - chunk.offset) :]
        if chunk.end <= offset:
            return
        yield data
        offset, length, attempt = chunk.end, chunk.length, chunk.attempt
