"""A log's bytes as lines to read: folded as `fleet logs` folds them, and bounded."""

from __future__ import annotations

from fleet_client.folding import Fold

MAX_LINES = 50_000


class LogText:
    """Lines of one attempt's log. Feeding any split of the same bytes gives the same lines, up to the limit."""

    def __init__(self, limit: int = MAX_LINES) -> None:
        self._lines: list[str] = []
        self._limit = limit
        self._fold = Fold()

    def __len__(self) -> int:
        open_line = self._fold.pending[-1]
        return len(self._lines) + len(self._fold.pending) - (not open_line)

    def __getitem__(self, index: int) -> str:
        settled = len(self._lines)
        line = self._lines[index] if index < settled else self._fold.pending[index - settled]
        return line.expandtabs(8)

    def feed(self, data: bytes) -> int:
        """Append bytes; returns how many of the oldest lines were dropped to stay within the limit."""
        self._lines += self._fold.feed(data)
        return self._trim()

    def note(self, sentence: str) -> int:
        """Append a line that is none of the program's; returns as `feed`."""
        self._lines += [*self._fold.finish(), sentence]
        return self._trim()

    def _trim(self) -> int:
        # In blocks: dropping one line at a time would copy the whole list at each line that arrives.
        surplus = len(self._lines) - self._limit
        if surplus <= self._limit // 10:
            return 0
        del self._lines[:surplus]
        return surplus
