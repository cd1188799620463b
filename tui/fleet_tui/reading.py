"""How a text is read: which lines are kept, where long ones are broken, what is searched for. No Textual here."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil

from rich.cells import cell_len, chop_cells

from fleet_client.folding import HELD_LINES
from fleet_tui.log import LogText

Text = Sequence[str] | LogText
CONTEXT = 2
"""Lines that stay on each side of one that a filter keeps."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """What to look for. Small letters also find capital ones; what is no regular expression means itself."""

    typed: str
    inverse: bool = False
    """Lines without it are meant."""

    @classmethod
    def of(cls, typed: str) -> Pattern | None:
        """`!` in front turns it round; None where nothing was typed."""
        words = typed.removeprefix("!")
        return cls(words, inverse=words != typed) if words else None

    def finder(self) -> re.Pattern[str]:
        flags = re.IGNORECASE if self.typed.islower() else re.NOFLAG
        try:
            return re.compile(self.typed, flags)
        except re.error:
            return re.compile(re.escape(self.typed), flags)


class Reading:
    """A text as rows on a screen: a row is a line that is kept, or a part of one that is wrapped."""

    def __init__(self, text: Text) -> None:
        self.text = text
        self.keep: Pattern | None = None
        self.wrap = 0
        """Cells at which lines are broken; 0 leaves them whole."""
        self._finds: Callable[[str], object] = bool
        self._measured = 0
        self._kept: list[int] = []
        self._starts = [0]
        self.grown()

    def set(self, *, keep: Pattern | None, wrap: int) -> None:
        self.keep, self.wrap = keep, wrap
        if keep is not None:
            self._finds = keep.finder().search
        self._work_out(0)

    def grown(self, dropped: int = 0) -> None:
        """There are more lines at the text's end, and `dropped` fewer at its beginning."""
        self._work_out(
            0 if dropped else max(0, self._measured - HELD_LINES - 1)
        )  # these may have been drawn over

    @property
    def rows(self) -> int:
        return self._starts[-1] if self.wrap else self._count

    @property
    def _count(self) -> int:
        """Of kept lines."""
        return len(self._kept) if self.keep else self._measured

    def at(self, row: int) -> tuple[int, int]:
        """The line that a row shows, and which part of it."""
        part = 0
        if self.wrap:
            nth = bisect_right(self._starts, row) - 1
            row, part = nth, row - self._starts[nth]
        return (self._kept[row] if self.keep else row), part

    def row_of(self, line: int) -> int:
        """The row at which the line, else the next one that is kept, begins."""
        nth = bisect_left(self._kept, line) if self.keep else line
        nth = min(nth, self._count)
        return self._starts[nth] if self.wrap else nth

    def is_hit(self, line: int) -> bool:
        """Whether the filter keeps the line for itself, and not as another one's neighbour."""
        return self.keep is None or bool(self._finds(self.text[line])) is not self.keep.inverse

    def part(self, row: int) -> str:
        """What a row shows."""
        line, part = self.at(row)
        return self._parts(self.text[line])[part] if self.wrap else self.text[line]

    def next_match(self, pattern: Pattern, line: int, step: int) -> int | None:
        """The nearest kept line behind (`step` 1) or before (-1) `line` that has the pattern; it goes round."""
        finds = pattern.finder().search
        start = bisect_left(self._kept, line) if self.keep else line
        for away in range(1, self._count + 1):
            nth = (start + step * away) % self._count
            found = self._kept[nth] if self.keep else nth
            if bool(finds(self.text[found])) is not pattern.inverse:
                return found
        return None

    def _work_out(self, start: int) -> None:
        """Which lines are kept, and where their rows begin, from line `start` on."""
        self._measured = len(self.text)
        if self.keep is not None:
            start = max(0, start - CONTEXT)
            del self._kept[bisect_left(self._kept, start) :]
            self._kept += self._with_context(start)
        if self.wrap:
            nth = bisect_left(self._kept, start) if self.keep else start
            nth = min(nth, len(self._starts) - 1)
            del self._starts[nth + 1 :]
            for line in self._kept[nth:] if self.keep else range(nth, self._measured):
                self._starts.append(self._starts[-1] + self._height(self.text[line]))

    def _with_context(self, start: int) -> Iterable[int]:
        """Lines from `start` on that are hits, or near one."""
        done = start
        for line in range(max(0, start - CONTEXT), self._measured):
            if self.is_hit(line):
                around = 0 if self.keep and self.keep.inverse else CONTEXT
                end = min(self._measured, line + around + 1)
                yield from range(max(done, line - around), end)
                done = max(done, end)

    def _height(self, line: str) -> int:
        return max(1, ceil(len(line) / self.wrap)) if line.isascii() else len(self._parts(line))

    def _parts(self, line: str) -> list[str]:
        if line.isascii():
            return [line[at : at + self.wrap] for at in range(0, len(line), self.wrap)] or [""]
        return chop_cells(line, self.wrap) or [""]


def widest(text: Text, start: int) -> int:
    """Cells of the longest line from `start` on."""
    return max((cell_len(text[at]) for at in range(start, len(text))), default=0)


_AGO = re.compile(r"(\d+)\s*([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def moment(typed: str, now: datetime) -> datetime | None:
    """`14:03`, `14:03:02` of the last 24 hours, `2026-05-04 14:03` or `10m` ago, in this machine's zone."""
    if ago := _AGO.fullmatch(typed.strip()):
        return now - timedelta(seconds=int(ago[1]) * _SECONDS[ago[2]])
    local = now.astimezone()
    try:
        if re.fullmatch(r"\d?\d:\d\d(:\d\d)?", typed.strip()):
            hours, minutes, *rest = map(int, typed.split(":"))
            found = local.replace(hour=hours, minute=minutes, second=rest[0] if rest else 0, microsecond=0)
            return found if found <= local else found - timedelta(days=1)
        given = datetime.fromisoformat(typed.strip())
    except ValueError:
        return None
    return given.astimezone(UTC)
