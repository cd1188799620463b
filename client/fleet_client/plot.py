"""Curves drawn with characters: points in, lines of text out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import log10

Point = tuple[int, float | None, float]
"""Step, value, and a time that is not drawn. None leaves a gap."""
Curve = Sequence[tuple[float, float | None]]
"""Where and how high; None leaves a gap."""
Cell = tuple[str, int | None]
"""Text, and the number of the curve that it is of; None is the axes'."""

MARKS = "abcdefgh"
"""The letters of several curves, at their ends and somewhere on the way."""
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
    lines = overlay([[(step, value) for step, value, _ in points]], width, height, charset)
    return ["".join(text for text, _ in line).rstrip() for line in lines]


def overlay(
    curves: Sequence[Curve],
    width: int,
    height: int,
    charset: Charset = FINE,
    *,
    log: bool = False,
    across: Callable[[float], str] = str,
) -> list[list[Cell]]:
    """Up to eight curves over each other as `plot` draws one; in a cell of several the first one's colour counts.

    `log`: by their logarithms, what is not above zero left out. `across` writes the ends of the lower axis.
    """
    scaled = [[(x, _logarithm(y) if log else y) for x, y in curve] for curve in curves]
    known = [y for curve in scaled for _, y in curve if y is not None]
    if not known:
        return []
    low, high = min(known), max(known)
    first, last = (end(x for curve in scaled for x, _ in curve) for end in (min, max))
    marks = [short(10**end if log else end) for end in (high, low)]
    margin = max(map(len, marks))
    columns = max(width, LEAST_WIDTH) - margin - 2
    rows = max(height, LEAST_HEIGHT) - 2
    canvas = Canvas(columns, rows, charset)
    for curve in scaled:
        canvas.draw(
            [None if y is None else (_share(x, first, last), _share(y, low, high)) for x, y in curve],
            marked=len(curves) > 1,
        )
    lines: list[list[Cell]] = []
    for row in range(rows):
        mark = marks[0] if row == 0 else marks[1] if row == rows - 1 else ""
        side = charset.tick if row in (0, rows - 1) else charset.side
        lines.append([(f"{mark:>{margin}} {side}", None), *canvas.row(row)])
    left, right = across(first), across(last)
    ends = f"{left}{right:>{max(columns - len(left), 1)}}" if last > first else left
    floor = f"{'':>{margin}} {charset.corner}{charset.floor * columns}"
    return [*lines, [(floor, None)], [(f"{'':>{margin + 2}}{ends}", None)]]


class Canvas:
    """Cells with the dots of each curve in them, and letters on top."""

    def __init__(self, columns: int, rows: int, charset: Charset) -> None:
        self._columns, self._rows, self._charset = columns, rows, charset
        self._dots: dict[tuple[int, int], set[tuple[int, int]]] = {}
        self._owner: dict[tuple[int, int], int] = {}
        self._letters: dict[tuple[int, int], int] = {}
        self._drawn = 0

    def draw(self, points: Sequence[tuple[float, float] | None], *, marked: bool) -> None:
        """One more curve, its points from (0, 0), the lower left, to (1, 1)."""
        high, wide = self._charset.rows, self._charset.columns
        grid = Grid(self._columns * wide, self._rows * high)
        grid.draw(points)
        for x, y in grid.dots:
            cell = (y // high, x // wide)
            self._dots.setdefault(cell, set()).add((y % high, x % wide))
            self._owner.setdefault(cell, self._drawn)
        known = [one for one in points if one is not None] if marked else []
        for point in (known[len(known) * (self._drawn + 1) // 10], known[-1]) if known else ():
            column, row = grid.place(*point)
            self._letters.setdefault((row // high, column // wide), self._drawn)
        self._drawn += 1

    def row(self, row: int) -> list[Cell]:
        """A row's cells, neighbours of one curve together."""
        runs: list[Cell] = []
        for column in range(self._columns):
            at = (row, column)
            owner = self._letters.get(at, self._owner.get(at))
            text = (
                MARKS[owner % len(MARKS)] if owner is not None and at in self._letters else self._drawing(at)
            )
            if runs and runs[-1][1] == owner:
                text = runs.pop()[0] + text
            runs.append((text, owner))
        return runs

    def _drawing(self, at: tuple[int, int]) -> str:
        if self._charset.rows == 1 and self._drawn > 1 and at in self._owner:
            return MARKS[self._owner[at] % len(MARKS)]
        return self._charset.drawn(self._dots.get(at, set()))


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
            here = self.place(*point)
            self._line(before or here, here)
            before = here

    def place(self, x: float, y: float) -> tuple[int, int]:
        return round(x * self._right), self._bottom - round(y * self._bottom)

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


def _logarithm(value: float | None) -> float | None:
    return log10(value) if value is not None and value > 0 else None
