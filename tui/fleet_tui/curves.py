"""The curves of several jobs over each other: whose, of which metric, drawn how. No Textual here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from rich.cells import cell_len

from fleet_client.errors import FleetError, NotFound
from fleet_client.plot import MARKS, Curve, overlay
from fleet_protocol.metrics import JobMetrics, Reading
from fleet_tui.cells import coarse, figure
from fleet_tui.inspector import DRAWN_POINTS
from fleet_tui.store import JobRow
from fleet_tui.text import Line, Tone, fit, joined, one_line
from fleet_tui.transport import Coordinator

MOST_JOBS = len(MARKS)
SMOOTHINGS = (0.0, 0.6, 0.9, 0.98)
"""How much of a smoothed value is the one before."""
TONES: tuple[Tone, ...] = ("accent", "warn", "good", "bad", "strong", "plain", "dim", "rule")
Turn = Literal["log", "smooth", "time", "name"]


def smoothed(readings: Sequence[Reading], weight: float) -> list[float | None]:
    """Each value as the mean of what came before it, the older the less; what is no number stays a gap."""
    values: list[float | None] = []
    mean = share = 0.0
    for _, value, _ in readings:
        if value is not None:
            mean = weight * mean + (1 - weight) * value
            share = weight * share + (1 - weight)
        values.append(None if value is None else mean / share)
    return values


class Curves:
    """Of at most eight jobs; asks for what is missing, one job after the other. `changed` says when to draw again."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._rows: tuple[JobRow, ...] = ()
        self._left_out = 0
        self._known: dict[str, tuple[object, JobMetrics | str]] = {}
        self._name = ""
        self._log = self._by_time = self._loading = False
        self._smoothing = 0.0

    def look_at(self, rows: Sequence[JobRow]) -> bool:
        """Turn to these; whether anything has to be asked for that is not being asked for."""
        self._rows, self._left_out = tuple(rows[:MOST_JOBS]), len(rows[MOST_JOBS:])
        ids = {row.job.job_id for row in self._rows}
        self._known = {job_id: told for job_id, told in self._known.items() if job_id in ids}
        return not self._loading and self._next() is not None

    def _next(self) -> JobRow | None:
        return next(
            (row for row in self._rows if self._known.get(row.job.job_id, ((),))[0] != _seen(row)), None
        )

    async def load(self, coordinator: Coordinator) -> None:
        if self._loading:
            return
        self._loading = True
        try:
            while (row := self._next()) is not None:
                job_id = row.job.job_id
                try:
                    told: JobMetrics | str = await coordinator.metrics(job_id, points=DRAWN_POINTS)
                except FleetError as error:
                    told = "no metrics yet" if isinstance(error, NotFound) else str(error)
                self._known[job_id] = (_seen(row), told)
                self._changed()
        finally:
            self._loading = False

    def turn(self, what: Turn) -> None:
        """Another scale, smoothing, axis or metric."""
        match what:
            case "log":
                self._log = not self._log
            case "time":
                self._by_time = not self._by_time
            case "smooth":
                at = SMOOTHINGS.index(self._smoothing) + 1
                self._smoothing = SMOOTHINGS[at % len(SMOOTHINGS)]
            case "name":
                names = self.names
                at = names.index(self._name) + 1 if self._name in names else 1
                self._name = names[at % len(names)] if names else ""

    @property
    def names(self) -> list[str]:
        """Of all metrics that any of the jobs told."""
        told = (told.series for _, told in map(self._of, self._rows) if isinstance(told, JobMetrics))
        return list(dict.fromkeys(name for series in told for name in series))

    def _of(self, row: JobRow) -> tuple[object, JobMetrics | str]:
        return self._known.get(row.job.job_id, ((), "…"))

    def title(self) -> Line:
        """Which metric, and how it is drawn."""
        names = self.names
        name = self._name if self._name in names else next(iter(names), "")
        if not name:
            return [("no metrics", "dim")] if self._rows else []
        ways = [
            f"{names.index(name) + 1} of {len(names)}" if len(names) > 1 else "",
            "logarithmic" if self._log else "",
            f"smoothed {self._smoothing:g}" if self._smoothing else "",
            "over time" if self._by_time else "over steps",
            f"{self._left_out} more marked jobs are left out" if self._left_out else "",
        ]
        return joined([(one_line(name), "strong")], [(" · ".join(filter(None, ways)), "dim")])

    def drawing(self, width: int, height: int) -> list[Line]:
        """The plot, and below it a line for each job: its letter, its name, its last value."""
        if not self._rows:
            return [[("no job is here: mark some with Space, or go to one", "dim")]]
        names = self.names
        name = self._name if self._name in names else next(iter(names), "")
        series = [
            told.series.get(name, ()) if isinstance(told, JobMetrics) else ()
            for _, told in map(self._of, self._rows)
        ]
        legend = [self._legend(at, row, series[at], width) for at, row in enumerate(self._rows)]
        across = coarse if self._by_time else "{:.0f}".format
        curves = [self._curve(readings) for readings in series]
        lines = overlay(curves, width, height - len(legend), log=self._log, across=across)
        plotted: list[Line] = [
            [(text, "dim" if of is None else TONES[of]) for text, of in cells] for cells in lines
        ]
        if not plotted and any(series):
            why = "nothing above zero, which a logarithm needs: L" if self._log else "no numbers"
            plotted = [[(why, "dim")]]
        return [*plotted, *legend]

    def _curve(self, readings: Sequence[Reading]) -> Curve:
        began = readings[0][2] if readings else 0.0
        values = smoothed(readings, self._smoothing)
        return [
            (at - began if self._by_time else step, value)
            for (step, _, at), value in zip(readings, values, strict=True)
        ]

    def _legend(self, at: int, row: JobRow, readings: Sequence[Reading], width: int) -> Line:
        letter = MARKS[at] if len(self._rows) > 1 else " "
        told = self._of(row)[1]
        if not readings:
            last = told if isinstance(told, str) else "does not tell this"
        else:
            step, value, _ = readings[-1]
            last = f"{'no number' if value is None else figure(value)} at step {step}"
        longest = max(cell_len(one_line(row.job.name)) for row in self._rows)
        name = fit(one_line(row.job.name), min(longest, max(12, width - cell_len(last) - 6)))
        return [(f"{letter}  {name}", TONES[at]), (f"  {one_line(last)}", "plain")]


def _seen(row: JobRow) -> tuple[object, ...]:
    """What has to differ for there to be other curves."""
    return row.job.attempt, row.job.status, row.points
