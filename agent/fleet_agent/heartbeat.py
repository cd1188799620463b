"""Keeps one attempt's lease: tells that it lives and how far it is, and does what the answer says."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from fleet_agent.gauges import Meter
from fleet_agent.limits import Limits
from fleet_agent.progress import TrainerEvents
from fleet_agent.uplink import Refused, Uplink
from fleet_agent.waiting import is_set_within
from fleet_protocol.ids import JobId
from fleet_protocol.jobs import Progress
from fleet_protocol.states import Verdict
from fleet_protocol.workers import HeartbeatRequest

log = structlog.get_logger()
JITTER = 0.2


@dataclass(slots=True)
class Pace:
    """How often to beat, as the last hello said; `wake` asks for a beat at once."""

    seconds: float = 30.0
    progress_seconds: float = 2.0
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    def wake_all(self) -> None:
        self.wake.set()
        self.wake = asyncio.Event()


class Heartbeat:
    """The heartbeat of one attempt; `on_stop` gets the coordinator's reason."""

    def __init__(
        self,
        uplink: Uplink,
        pace: Pace,
        job: JobId,
        body: HeartbeatRequest,
        events: TrainerEvents,
        *,
        meter: Meter,
        limits: Limits,
        on_stop: Callable[[str], None],
    ) -> None:
        self._uplink = uplink
        self._pace = pace
        self._job = job
        self._body = body
        self._events = events
        self._told: Progress | None = None
        self._meter = meter
        self._limits = limits
        self._on_stop = on_stop
        self._is_alarmed = False

    async def run(self) -> None:
        while True:
            await self._until_due(self._pace.seconds * random.uniform(1 - JITTER, 1 + JITTER))
            try:
                await self._uplink.persist("tell that a job runs", self._beat)
            except Refused as refusal:
                log.warning(f"heartbeat refused: {refusal}", action="heartbeat_refused", job=self._job)

    async def _until_due(self, interval: float) -> None:
        """Return after `interval`, on a wake-up, or when there is new progress to tell."""
        loop = asyncio.get_running_loop()
        due = loop.time() + interval
        while (left := due - loop.time()) > 0:
            rest = min(left, self._pace.progress_seconds)
            if await is_set_within(self._pace.wake, rest) or self._events.latest != self._told:
                return

    async def _beat(self) -> None:
        self._told = self._events.latest
        body = self._body.model_copy(update={"progress": self._told, "gauges": self._meter.latest})
        sent = self._limits.clock()
        answer = await self._uplink.heartbeat(self._job, body)
        if answer.verdict is Verdict.CONTINUE:
            self._limits.renew(sent, answer.lease_seconds)
        if answer.verdict is Verdict.STOP:
            self._on_stop(answer.why or "the coordinator asked for it")
        is_unknown = answer.verdict is Verdict.UNKNOWN
        if is_unknown and not self._is_alarmed:
            log.error(
                "the coordinator does not know this attempt (was an older database restored?); training goes on",
                action="attempt_unknown",
                job=self._job,
                attempt=body.attempt,
            )
        self._is_alarmed = is_unknown
