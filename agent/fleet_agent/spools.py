"""All logs of this host: looked at while they grow, kept within their budget of disk, and queued for sending."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Collection
from pathlib import Path

import structlog

from fleet_agent.disk import BLOCK_BYTES, Reserve, can_punch
from fleet_agent.settings import Timing
from fleet_agent.spool import HEAD_BYTES, Spool
from fleet_agent.waiting import is_set_within
from fleet_protocol.ids import AttemptId

log = structlog.get_logger()

GIB = 1 << 30
LARGEST_BUDGET, SHARE_OF_DISK = 8 * GIB, 10
LARGEST_RESERVE, SHARE_OF_BUDGET = 64 << 20, 8
STEP_BYTES = 8 << 20
"""Given back at a time."""
CARE_SECONDS = 0.5
"""How often the disk is looked at while attempts are here, and a quiet log at least."""
QUIET_SHARE = 8
"""A log that was quiet for so long is looked at again after one part in so many of it."""


class SpoolDisk:
    """How much of the disk the logs may take: at most the budget, and never the last free bytes."""

    def __init__(self, folder: Path, budget: int | None = None) -> None:
        self._folder = folder
        tenth = shutil.disk_usage(folder).total // SHARE_OF_DISK or LARGEST_BUDGET
        self._budget = budget or min(LARGEST_BUDGET, tenth)
        self.reserve = Reserve(folder, min(LARGEST_RESERVE, self._budget // SHARE_OF_BUDGET))
        self._can_punch: bool | None = None

    def care(self, spools: Collection[Spool]) -> None:
        """Give back what is not needed here any more and, where room is short, what can be missed most."""
        if spools and self._may_punch():
            with contextlib.suppress(OSError):  # a file system may need room to give some back
                self._make_room(spools)
        self._care_for_reserve()

    def _lacking(self, spools: Collection[Spool]) -> int:
        over_budget = sum(spool.allocated for spool in spools) - self._budget
        return max(over_budget, self.reserve.size - self.reserve.free)

    def _make_room(self, spools: Collection[Spool]) -> None:
        is_short = self._lacking(spools) > 0
        for spool in spools:
            spool.free_acknowledged(BLOCK_BYTES if is_short else STEP_BYTES)
        for head in (HEAD_BYTES, 0):
            while (lacking := self._lacking(spools)) > 0:
                spool = max(spools, key=lambda spool: spool.droppable_bytes(head))
                if not spool.droppable_bytes(head):
                    break
                if not spool.is_incomplete:
                    log.warning(
                        "no room for a log that waits to be sent: its oldest part is given up, never its end",
                        action="log_dropped",
                        attempt=spool.attempt,
                    )
                spool.drop(head, max(lacking, min(STEP_BYTES, self._budget // SHARE_OF_BUDGET)))

    def _care_for_reserve(self) -> None:
        if self.reserve.is_held and self.reserve.is_needed:
            self.reserve.release()
            log.warning(
                f"the disk of {self._folder} is full: what was kept for this is given to those that run; make "
                "room there",
                action="disk_full",
            )
        elif not self.reserve.is_held:
            with contextlib.suppress(OSError):  # not yet
                self.reserve.take()

    def _may_punch(self) -> bool:
        if self._can_punch is None:
            with contextlib.suppress(OSError):  # too full to know: later
                self._can_punch = can_punch(self._folder)
                if not self._can_punch:
                    log.warning(
                        f"the file system of {self._folder} cannot give parts of a file back: logs stay there "
                        "whole until their attempts are over, whatever --spool-gib says",
                        action="logs_kept_whole",
                    )
        return bool(self._can_punch)


class Spools:
    """The logs that are followed, and a queue of those with something to send, where each gets one piece a turn."""

    def __init__(self, disk: SpoolDisk, timing: Timing) -> None:
        self.disk = disk
        self._all: dict[AttemptId, Spool] = {}
        self._due: dict[AttemptId, None] = {}
        self._is_due = asyncio.Event()
        self._came = asyncio.Event()
        self.poll = timing.log_poll
        """How often a log that grows is looked at, which its way to the coordinator decides."""

    def follow(self, attempt: AttemptId, path: Path) -> Spool:
        spool = self._all[attempt] = Spool(attempt, path)
        self._came.set()
        self.stir(spool)
        return spool

    def close(self, spool: Spool) -> None:
        spool.close()
        self.stir(spool)

    def forget(self, spool: Spool) -> None:
        self._all.pop(spool.attempt, None)
        self._due.pop(spool.attempt, None)
        spool.leave()

    def get(self, attempt: AttemptId) -> Spool | None:
        return self._all.get(attempt)

    # Sending

    def stir(self, spool: Spool) -> None:
        """Give it a turn, if there may be anything to send."""
        if spool.end and not spool.over.is_set():
            self._due[spool.attempt] = None
            self._is_due.set()

    def acknowledge(self, spool: Spool, durable: int) -> None:
        spool.acknowledge(durable)
        if spool.has_more:
            self.stir(spool)

    def give_up(self, spool: Spool, why: str) -> None:
        log.warning(f"the rest of a log is not wanted: {why}", action="log_refused", attempt=spool.attempt)
        spool.over.set()

    @property
    def is_any_asked(self) -> bool:
        return any(spool.is_asked for spool in self._all.values())

    async def next(self) -> Spool:
        """Whose turn it is."""
        while not self._due:
            self._is_due.clear()
            await self._is_due.wait()
        attempt = next(iter(self._due))
        del self._due[attempt]
        return self._all[attempt]

    def disconnect(self) -> None:
        """What is on its way may have been lost; whoever connects next asks for every log anew."""
        for spool in self._all.values():
            spool.disconnect()
            self.stir(spool)

    # Watching

    async def run(self) -> None:
        """Without any log this waits for ever."""
        loop = asyncio.get_running_loop()
        stirred_at = cared_at = -CARE_SECONDS
        while True:
            if not self._all or self._came.is_set():
                await self._came.wait()
                self._came.clear()
                stirred_at = loop.time()
            now = loop.time()
            for spool in list(self._all.values()):
                if spool.look():
                    self.stir(spool)
                    stirred_at = now
            if now - cared_at >= CARE_SECONDS:
                cared_at = now
                with contextlib.suppress(OSError):  # whoever has to write there tells of a disk that fails
                    self.disk.care(self._all.values())
            quiet = min((now - stirred_at) / QUIET_SHARE, CARE_SECONDS)
            await is_set_within(self._came, max(quiet, self.poll))
