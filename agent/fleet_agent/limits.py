"""How long a trainer may run: its job's timeout and, where the job is exclusive, its lease.

Both are on disk and counted on a clock that goes on while the machine sleeps, so that an agent that takes a trainer
up knows them, and a machine that wakes up knows that its lease is gone. An exclusive trainer's lease is also told to
its supervisor, on the clock that a shell can read: it ends the trainer where no agent is left to do so.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable
from pathlib import Path

from fleet_agent.state import AttemptFolder, StopOrder, Times
from fleet_protocol.states import ReleaseReason

Clock = Callable[[], float]

LOOK_SECONDS = 1.0  # at most: a timer stands still while the machine sleeps, so the clock is looked at
LOOKS_A_LEASE = 50
MARGIN = 0.1  # of a lease, between the trainer's certain end and the first moment it may begin elsewhere
UNHEARD_MARGIN = 0.05  # the same where the supervisor has to do it: it looks less often, and gives no grace
LONGEST_GRACE = 0.2  # of a lease; the rest is for heartbeats that come late
SLEPT_SECONDS = 5.0  # two clocks that are apart by this much more than before: the machine was suspended
WAKE_LOOK_SECONDS = 2.0


def since_boot() -> float:
    """Seconds on a clock that nobody sets and, where the system has one, no suspend stops."""
    if sys.platform == "win32":
        return time.monotonic()
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def uptime() -> float | None:
    """The same as a shell can read it; None where it cannot."""
    try:
        return float(Path("/proc/uptime").read_text().split()[0])
    except (OSError, ValueError):
        return None


async def notice_sleep(clock: Clock, on_wake: Callable[[float], None]) -> None:
    """Calls `on_wake` with the seconds slept, soon after the machine woke up: no timer runs while it sleeps."""
    loop = asyncio.get_running_loop()
    ahead = clock() - loop.time()
    while True:
        await asyncio.sleep(WAKE_LOOK_SECONDS)
        before, ahead = ahead, clock() - loop.time()
        if ahead - before > SLEPT_SECONDS:
            on_wake(ahead - before)


class Limits:
    """Those of one attempt."""

    def __init__(self, folder: AttemptFolder, clock: Clock, grace: float) -> None:
        self.clock = clock
        self._folder = folder
        self._job = folder.job
        self._grace = grace
        now = clock()
        self._times = folder.times() or Times(began=now, heard=now, lease_seconds=folder.record.lease_seconds)

    @property
    def exist(self) -> bool:
        return self._job.timeout is not None or self._job.exclusive

    @property
    def look_seconds(self) -> float:
        """How long until somebody should look again."""
        return min(LOOK_SECONDS, self._times.lease_seconds / LOOKS_A_LEASE)

    def begin(self) -> None:
        """The trainer is about to start. OSError when that cannot be written down: then it must not."""
        self._times = self._times.model_copy(update={"began": self.clock()})
        if self.exist:
            self._folder.note_times(self._times)
        if self._job.exclusive:
            self._folder.prepare_end(self._unheard("ran out while no agent was there to renew it"))
            self._note_deadline()

    def renew(self, sent: float, lease_seconds: float | None = None) -> None:
        """The coordinator answered what was `sent` then; it counts the lease from then or later."""
        lease = self._job.lease or lease_seconds or self._times.lease_seconds
        heard = max(sent, self._times.heard)
        self._times = self._times.model_copy(update={"heard": heard, "lease_seconds": lease})
        if self._job.exclusive:
            with contextlib.suppress(OSError):  # an older time on disk ends the trainer sooner, not later
                self._folder.note_times(self._times)
                self._note_deadline()

    def overdue(self) -> StopOrder | None:
        """Why the trainer has to be asked to end now, if it has."""
        now, times = self.clock(), self._times
        if self._job.timeout is not None and now - times.began >= self._job.timeout:
            words = f"ran longer than its timeout of {self._job.timeout:g} s"
            return StopOrder(reason=ReleaseReason.STOPPED, detail=words, is_timeout=True)
        grace = min(self._grace, LONGEST_GRACE * times.lease_seconds)
        if self._job.exclusive and now >= self._lease_end - grace:
            return self._unheard("ran out unheard")
        return None

    def _unheard(self, how: str) -> StopOrder:
        words = f"exclusive, and its lease of {self._times.lease_seconds:g} s {how}"
        return StopOrder(reason=ReleaseReason.STOPPED, detail=words)

    def _note_deadline(self) -> None:
        """For the supervisor: until when on a shell's clock, and how often to look, in whole seconds."""
        lease, now = self._times.lease_seconds, uptime()
        if now is not None:
            left = self._times.heard + (1 - UNHEARD_MARGIN) * lease - self.clock()
            self._folder.note_deadline(int(now + left), max(1, int(lease / LOOKS_A_LEASE)))

    @property
    def is_out_of_lease(self) -> bool:
        """No more grace: another worker may soon begin."""
        return self._job.exclusive and self.clock() >= self._lease_end

    @property
    def _lease_end(self) -> float:
        return self._times.heard + (1 - MARGIN) * self._times.lease_seconds
