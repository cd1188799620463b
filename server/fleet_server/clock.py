"""The coordinator's clock, passed in wherever time decides something."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    def now(self) -> datetime:
        """Aware UTC time that never runs backwards."""
        ...


class SteadyClock:
    """Wall time at start plus monotonic time since, so a step of the machine's clock moves no lease."""

    def __init__(self) -> None:
        self._wall = datetime.now(UTC)
        self._start = time.monotonic()

    def now(self) -> datetime:
        return self._wall + timedelta(seconds=time.monotonic() - self._start)
