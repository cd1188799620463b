"""Reads on in what one trainer tells, and carries the points of its curves to the coordinator.

They go in batches, numbered, and the coordinator dictates from where to go on, as with a log.
"""

from __future__ import annotations

import asyncio

import structlog

from fleet_agent.progress import TrainerEvents
from fleet_agent.uplink import Refused, Uplink
from fleet_agent.waiting import is_set_within
from fleet_protocol.errors import Code
from fleet_protocol.ids import AttemptId, WorkerId
from fleet_protocol.metrics import MAX_POINTS, MetricsRequest

log = structlog.get_logger()


class Curves:
    """The loop of one attempt; `seconds` is how often it looks, and how long a batch is collected."""

    def __init__(
        self, uplink: Uplink, worker: WorkerId, attempt: AttemptId, events: TrainerEvents, *, seconds: float
    ) -> None:
        self._uplink = uplink
        self._worker = worker
        self._attempt = attempt
        self._events = events
        self._seconds = seconds
        self._closed = asyncio.Event()
        self._has_complained = False
        self.over = asyncio.Event()
        """Set when there is nothing left to send, or when no more of it is wanted."""

    def close(self) -> None:
        """The trainer is gone: what is there now is all."""
        self._closed.set()

    async def run(self) -> None:
        """Until the trainer is gone and all is sent."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._send())
            while not self._closed.is_set():  # also while nothing can be sent: heartbeats tell how far it is
                await self._look()
                await is_set_within(self._closed, self._seconds)

    async def _send(self) -> None:
        while not self.over.is_set():
            is_last = self._closed.is_set()
            await self._look()
            if is_last and not self._events.is_full:
                self._events.finish()
            if self._events.points:
                await self._hand_in()
            elif is_last:
                self.over.set()
            if len(self._events.points) < MAX_POINTS:
                await is_set_within(self._closed, self._seconds)

    async def _look(self) -> None:
        """Read to the end of what is there, or until enough waits to be sent."""
        events = self._events
        while not events.is_full and events.poll():  # noqa: ASYNC110 - a file has no event to wait for
            await asyncio.sleep(0)
        if self.over.is_set():
            events.acknowledge(events.first + len(events.points))
        if events.complaint and not self._has_complained:
            self._has_complained = True
            log.warning(
                f"the trainer tells what cannot be understood and is left out ({events.bad_lines} so far): "
                f"{events.complaint}",
                action="events_left_out",
                attempt=self._attempt,
            )

    async def _hand_in(self) -> None:
        body = MetricsRequest(
            worker=self._worker,
            first=self._events.first,
            points=tuple(self._events.points[:MAX_POINTS]),
        )
        try:
            answer = await self._uplink.persist(
                "send metrics", lambda: self._uplink.send_metrics(self._attempt, body)
            )
        except Refused as refusal:
            following = (refusal.problem.current or {}).get("next")
            if refusal.problem.code == Code.METRICS_GAP and isinstance(following, int):
                self._events.acknowledge(following)
                return
            log.warning(f"metrics are not wanted: {refusal}", action="metrics_refused", attempt=self._attempt)
            self.over.set()
        else:
            self._events.acknowledge(answer.next)
