"""The wake-up of everybody who follows the history: one number, the id of the last committed event."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from fleet_server.database import EventRow


class Feed:
    """Readers sleep here and read the history themselves, so a slow one only lags and costs no memory."""

    def __init__(self, last: int) -> None:
        self.last = last
        self.closing = False
        self.cursors: dict[object, int] = {}
        """How far each reader of the history is."""
        self._moved = asyncio.Event()

    def on_commit(self, events: Sequence[EventRow]) -> None:
        self.last = max(self.last, events[-1].event)
        self._wake()

    @property
    def lag(self) -> int:
        """Events that the slowest reader has yet to read."""
        return max((self.last - cursor for cursor in self.cursors.values()), default=0)

    def close(self) -> None:
        """Nobody shall wait any longer."""
        self.closing = True
        self._wake()

    async def wait_beyond(self, cursor: int, seconds: float) -> bool:
        """Whether there is an event after `cursor`, waiting at most `seconds` for one."""
        if self.last > cursor or self.closing:
            return self.last > cursor
        try:
            await asyncio.wait_for(self._moved.wait(), seconds)
        except TimeoutError:
            return False
        return self.last > cursor

    def _wake(self) -> None:
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()
