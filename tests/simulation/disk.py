"""Disks at the one moment that matters: when something is to be made durable. It may be full, or the last moment."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass

from tests.simulation.network import Seen

KILL: ContextVar[Callable[[], None] | None] = ContextVar("kill", default=None)
"""Ends the agent in whose tasks this is asked; None in the coordinator's."""


class Killed(BaseException):
    """SIGKILL in the middle of a function: nothing in between may stop it."""


@dataclass(slots=True)
class Disk:
    luck: random.Random
    seen: Seen
    full: float = 0.0
    deadly: float = 0.0

    def calm(self) -> None:
        self.full = self.deadly = 0.0

    def sync(self, _: int) -> None:
        """In the place of fsync and fdatasync; on no real disk, since nobody takes the power from this test."""
        kill = KILL.get()
        if self.full and self.luck.random() < self.full:
            self.seen.sometimes["disk full: agent" if kill else "disk full: coordinator"] += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if kill and self.deadly and self.luck.random() < self.deadly:
            self.seen.sometimes["killed while it wrote its state"] += 1
            kill()
            raise Killed
