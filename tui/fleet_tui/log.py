"""A log's bytes as lines to read: folded as `fleet logs` folds them, with the time each one came, and bounded."""

from __future__ import annotations

from bisect import bisect_left
from datetime import datetime

from fleet_client.folding import Fold

MAX_LINES = 50_000


class LogText:
    """Lines of one attempt's log. Feeding any split of the same bytes gives the same lines, up to the limit."""

    def __init__(self, limit: int = MAX_LINES) -> None:
        self.now = 0.0
        """When what is fed came, in Unix seconds; 0 while nobody has said so."""
        self._lines: list[str] = []
        self._times: list[float] = []
        self._limit = limit
        self._fold = Fold()

    def __len__(self) -> int:
        open_line = self._fold.pending[-1]
        return len(self._lines) + len(self._fold.pending) - (not open_line)

    def __getitem__(self, index: int) -> str:
        settled = len(self._lines)
        line = self._lines[index] if index < settled else self._fold.pending[index - settled]
        return line.expandtabs(8)

    def came(self, index: int) -> float:
        """When the line began to come, in Unix seconds; 0 if that is not known."""
        return self._times[index] if index < len(self._times) else 0.0

    def since(self, moment: datetime) -> int:
        """The first line that came at `moment` or later; the number of lines where none did."""
        return min(len(self), bisect_left(self._times, moment.timestamp()))

    def feed(self, data: bytes) -> int:
        """Append bytes; returns how many of the oldest lines were dropped to stay within the limit."""
        self._lines += self._fold.feed(data)
        return self._trim()

    def note(self, sentence: str) -> int:
        """Append a line that is none of the program's; returns as `feed`."""
        self._lines += [*self._fold.finish(), sentence]
        return self._trim()

    def _trim(self) -> int:
        count = len(self)
        del self._times[count:]
        self._times += [self.now] * (count - len(self._times))
        # In blocks: dropping one line at a time would copy the whole list at each line that arrives.
        surplus = len(self._lines) - self._limit
        if surplus <= self._limit // 10:
            return 0
        del self._lines[:surplus], self._times[:surplus]
        return surplus
