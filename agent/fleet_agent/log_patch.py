"""Logs by plain HTTP, where no websocket can be had: the same bytes under the same rule, a request each time."""

from __future__ import annotations

import asyncio

from fleet_agent.settings import Timing
from fleet_agent.spool import Spool
from fleet_agent.spools import Spools
from fleet_agent.uplink import Refused, Unreachable, Uplink, is_recoverable
from fleet_protocol.errors import Code

AT_ONCE = 4
"""Requests: with one after the other, many logs over a slow line would wait for each other."""
PATIENT_TRIES = 3


class LogPatch:
    """Sends whatever has its turn, one request for each log at a time."""

    def __init__(self, uplink: Uplink, spools: Spools, timing: Timing) -> None:
        self._uplink = uplink
        self._spools = spools
        self._timing = timing

    async def run(self) -> None:
        """For as long as it is worth not asking for a websocket again."""
        self._spools.poll = self._timing.http_poll
        try:
            async with asyncio.timeout(self._timing.http_logs), asyncio.TaskGroup() as group:
                for _ in range(AT_ONCE):
                    group.create_task(self._carry())
        except TimeoutError:
            pass
        finally:
            self._spools.poll = self._timing.log_poll
            self._spools.disconnect()

    async def _carry(self) -> None:
        while True:
            spool = await self._spools.next()
            try:
                await self._serve(spool)
            except Unreachable:
                await self._later(spool, None)
            except Refused as refusal:
                await self._on_refusal(spool, refusal)

    async def _serve(self, spool: Spool) -> None:
        if not spool.is_asked:
            spool.is_asked = True
            self._spools.acknowledge(spool, await self._uplink.log_length(spool.attempt))
        elif piece := spool.take():
            offset = spool.durable or 0
            self._spools.acknowledge(spool, await self._uplink.append_log(spool.attempt, offset, piece))

    async def _on_refusal(self, spool: Spool, refusal: Refused) -> None:
        durable = refusal.durable()
        if refusal.problem.code == Code.LOG_GAP and durable is not None:
            self._spools.acknowledge(spool, durable)
        elif is_recoverable(refusal):
            await self._later(spool, refusal.retry_after)
        else:
            self._spools.give_up(spool, str(refusal))

    async def _later(self, spool: Spool, seconds: float | None) -> None:
        await self._uplink.pause(self._uplink.delay(PATIENT_TRIES) if seconds is None else seconds)
        spool.disconnect()
        self._spools.stir(spool)
