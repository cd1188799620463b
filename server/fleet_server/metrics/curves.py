"""Curves shortened while they are read, in one pass and in bounded memory, without losing what a reader looks for.

A curve is cut into stretches of as many points each; a stretch keeps its first, its lowest, its highest and its last.
With too many stretches two and two become one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fleet_protocol.metrics import Reading

Curves = Mapping[str, tuple[Reading, ...]]

KEPT = 4
"""Points of a stretch at most: a curve is whole until it has more than it may keep."""
HELD = 64
"""Points of the stretch that is being filled, before it is shortened: often would cost more than the reading."""


class Curve:
    """One series in at most `limit` points, 4 at least."""

    def __init__(self, limit: int) -> None:
        self._stretches_at_most = max(limit // KEPT, 1)
        self._stretch = KEPT
        self._told = KEPT
        """Points of the last stretch so far; full at first, where there is none yet."""
        self._stretches: list[list[Reading]] = []

    def add(self, point: Reading) -> None:
        if self._told >= self._stretch:
            if len(self._stretches) == self._stretches_at_most:
                self._join()
            if self._told >= self._stretch:
                if self._stretches:
                    self._stretches[-1] = extremes(self._stretches[-1])
                self._stretches.append([])
                self._told = 0
        last = self._stretches[-1]
        last.append(point)
        self._told += 1
        if len(last) > HELD:
            self._stretches[-1] = extremes(last)

    def points(self) -> tuple[Reading, ...]:
        return tuple(point for stretch in self._stretches for point in extremes(stretch))

    def _join(self) -> None:
        """Two neighbours become one; the last of an odd number goes on being filled."""
        is_even = len(self._stretches) % 2 == 0
        pairs = (self._stretches[at : at + 2] for at in range(0, len(self._stretches), 2))
        self._stretches = [extremes([point for stretch in pair for point in stretch]) for pair in pairs]
        self._told = 2 * self._stretch if is_even else self._stretch
        self._stretch *= 2


def extremes(points: list[Reading]) -> list[Reading]:
    """The first, the lowest, the highest and the last, in their order; all of them where they are few."""
    if len(points) <= KEPT:
        return points
    values = {at: value for at, (_, value, _) in enumerate(points) if value is not None}
    kept = {0, len(points) - 1}
    if values:
        kept |= {min(values, key=values.__getitem__), max(values, key=values.__getitem__)}
    return [points[at] for at in sorted(kept)]


def thinned(points: Iterable[Reading], limit: int) -> tuple[Reading, ...]:
    """At most `limit` of them."""
    curve = Curve(limit)
    for point in points:
        curve.add(point)
    return curve.points()


def joined(attempts: Iterable[Curves]) -> dict[str, tuple[Reading, ...]]:
    """Curves over several attempts, oldest first: each goes on where it began, and replaces what was told beyond.

    So one that resumed continues the one before, and one that started over stands alone.
    """
    whole: dict[str, tuple[Reading, ...]] = {}
    for curves in attempts:
        begins = min((points[0][0] for points in curves.values() if points), default=None)
        if begins is None:
            continue
        for name in dict.fromkeys((*whole, *curves)):
            points = curves.get(name, ())
            start = points[0][0] if points else begins
            whole[name] = tuple(point for point in whole.get(name, ()) if point[0] < start) + points
    return {name: points for name, points in whole.items() if points}
