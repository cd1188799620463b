"""A log's bytes as lines to read: decoded, carriage returns folded, sanitised, bounded."""

from __future__ import annotations

from codecs import getincrementaldecoder

from fleet_tui.text import plain

MAX_LINES = 50_000
MAX_LINE_CHARS = 8_192
"""A line is broken after this many characters, so that a program that never ends one stays readable."""


def folded(raw: str) -> str:
    """What a terminal would show last of a line that was overwritten with carriage returns."""
    shown = raw.rstrip("\r")
    return plain(shown[shown.rfind("\r") + 1 :])


class LogText:
    """Lines of one attempt's log. Feeding any split of the same bytes gives the same lines, up to the limit."""

    def __init__(self, limit: int = MAX_LINES) -> None:
        self.lines: list[str] = []
        """Complete lines; the one still being written is `open_line`."""
        self._open = ""
        self._limit = limit
        self._decoder = getincrementaldecoder("utf-8")("replace")

    @property
    def open_line(self) -> str:
        return folded(self._open)

    def __len__(self) -> int:
        return len(self.lines) + bool(self.open_line)

    def __getitem__(self, index: int) -> str:
        return self.lines[index] if index < len(self.lines) else self.open_line

    def feed(self, data: bytes) -> int:
        """Append bytes; returns how many of the oldest lines were dropped to stay within the limit."""
        *complete, still_open = (self._open + self._decoder.decode(data)).split("\n")
        for raw in complete:
            self.lines.append(folded(self._broken(raw)))
        self._open = self._broken(still_open)
        return self._trim()

    def _broken(self, raw: str) -> str:
        """What is left of `raw` to show or to go on with, after its too long pieces became lines."""
        body = raw.rstrip("\r")
        piece = ""
        for piece in body.split("\r"):
            while len(piece) > MAX_LINE_CHARS:
                self.lines.append(folded(piece[:MAX_LINE_CHARS]))
                piece = piece[MAX_LINE_CHARS:]
        return piece + raw[len(body) : len(body) + 1]

    def _trim(self) -> int:
        # In blocks: dropping one line at a time would copy the whole list at each line that arrives.
        surplus = len(self.lines) - self._limit
        if surplus <= self._limit // 10:
            return 0
        del self.lines[:surplus]
        return surplus
