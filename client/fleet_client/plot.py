"""A curve drawn with characters: points in, lines of text out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Point = tuple[int, float | None, float]
"""Step, value, and a time that is not drawn. None leaves a gap."""

LEAST_WIDTH, LEAST_HEIGHT = 24, 4
BRAILLE = 0x2800
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""The bit of each of a braille character's eight dots, by row and column."""


@dataclass(frozen=True, slots=True)
class Charset:
    """What a plot is made of: how many dots a character holds, and the axes."""

    rows: int
    columns: int
    tick: str
    side: str
    corner: str
    floor: str

    def drawn(self, dots: set[tuple[int, int]]) -> str:
        """The character with these of its dots, as (row, column)."""
        if self.rows == 1:
            return "*" if dots else " "
        return chr(BRAILLE + sum(DOTS[row][column] for row, column in dots)) if dots else " "


FINE = Charset(rows=4, columns=2, tick="┤", side="│", corner="└", floor="─")
ASCII = Charset(rows=1, columns=1, tick="+", side="|", corner="+", floor="-")


def plot(points: Sequence[Point], width: int, height: int, charset: Charset = FINE) -> list[str]:
    """The curve in `height` lines of at most `width` characters, both with axes; nothing without a value."""
    known = [(step, value) for step, value, _ in points if value is not None]
    if not known:
        return []
    low, high = min(value for _, value in known), max(value for _, value in known)
    first, last = min(step for step, _, _ in points), max(step for step, _, _ in points)
    marks = [short(high), short(low)]
    margin = max(map(len, marks))
    columns = max(width, LEAST_WIDTH) - margin - 2
    rows = max(height, LEAST_HEIGHT) - 2
    grid = Grid(columns * charset.columns, rows * charset.rows)
    grid.draw(
        None if value is None else (_share(step, first, last), _share(value, low, high))
        for step, value, _ in points
    )
    lines = [
        f"{marks[0] if row == 0 else marks[1] if row == rows - 1 else '':>{margin}} "
        f"{charset.tick if row in (0, rows - 1) else charset.side}{_row(grid, row, columns, charset)}".rstrip()
        for row in range(rows)
    ]
    ends = f"{first}{last:>{max(columns - len(str(first)), 1)}}" if last > first else str(first)
    floor = f"{'':>{margin}} {charset.corner}{charset.floor * columns}"
    return [*lines, floor, f"{'':>{margin + 2}}{ends}"]


class Grid:
    """Dots that are set; (0, 0) is the upper left one."""

    def __init__(self, width: int, height: int) -> None:
        self._right, self._bottom = width - 1, height - 1
        self.dots: set[tuple[int, int]] = set()

    def draw(self, points: Iterable[tuple[float, float] | None]) -> None:
        """Points from (0, 0), the lower left, to (1, 1), joined by lines; None begins anew."""
        before: tuple[int, int] | None = None
        for point in points:
            if point is None:
                before = None
                continue
            here = round(point[0] * self._right), self._bottom - round(point[1] * self._bottom)
            self._line(before or here, here)
            before = here

    def _line(self, start: tuple[int, int], end: tuple[int, int]) -> None:
        (x, y), (to_x, to_y) = start, end
        steps = max(abs(to_x - x), abs(to_y - y), 1)
        for step in range(steps + 1):
            self.dots.add((x + round((to_x - x) * step / steps), y + round((to_y - y) * step / steps)))


def short(value: float) -> str:
    """Four significant digits."""
    return f"{value:.4g}"


def _share(value: float, low: float, high: float) -> float:
    """Where `value` is between two others, from 0 to 1; halved first, as their difference may be beyond all floats."""
    return (value / 2 - low / 2) / (high / 2 - low / 2) if high > low else 0.5


def _row(grid: Grid, row: int, columns: int, charset: Charset) -> str:
    def dots(column: int) -> set[tuple[int, int]]:
        return {
            (y, x)
            for y in range(charset.rows)
            for x in range(charset.columns)
            if (column * charset.columns + x, row * charset.rows + y) in grid.dots
        }

    return "".join(charset.drawn(dots(column)) for column in range(columns))
