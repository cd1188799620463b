"""Heartbeats are kept in memory; this loop writes them down, so that a restarted coordinator knows them roughly.

Losing the last few seconds in a crash is safe: leases count from when the coordinator began listening.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from fleet_protocol.ids import AttemptId, WorkerId
from fleet_server.database import Database
from fleet_server.settings import Settings
from fleet_server.workers import queries
from fleet_server.workers.roster import Roster

log = structlog.get_logger()


@dataclass(slots=True)
class Flush:
    """Writes down, every `settings.flush` seconds, when workers and attempts were last heard."""

    database: Database
    settings: Settings
    roster: Roster
    _heard: dict[WorkerId, datetime] = field(default_factory=dict)
    _beats: dict[AttemptId, datetime] = field(default_factory=dict)

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self.settings.flush)
            try:
                await self.once()
            except Exception:  # the loop outlives one bad write; the next one carries all of it again
                log.exception("flush_failed")

    async def once(self) -> None:
        heard = dict(self.roster.heard.items() - self._heard.items())
        beats = dict(self.roster.beats.items() - self._beats.items())
        if heard or beats:
            await self.database.writer.run(lambda tx: queries.flush_heard(tx, heard, beats))
            self._heard, self._beats = dict(self.roster.heard), dict(self.roster.beats)
