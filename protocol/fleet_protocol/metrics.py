"""Metrics on the wire: the points of a training's curves, from its agent in order and to readers thinned.

Points are numbered from 0 within an attempt, over all its curves, in the order in which they were told.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from fleet_protocol.ids import WireAttemptId, WireJobId, WireWorkerId
from fleet_protocol.wire import Answer, Count, Label, Request, Whole

MAX_POINTS = 5000
"""In one request."""
MAX_SERIES = 1000
"""Names of curves in one attempt: a name that holds a step or a sample's id would make them without end."""
MAX_READ_POINTS = 100_000
"""In one answer, all curves together."""

UnixSeconds = Annotated[float, Field(ge=0, le=1e11)]


class Point(Request):
    """One value of one curve. None stands for what is no number: a loss that became NaN or infinite."""

    name: Label
    step: Whole
    value: float | None
    at: UnixSeconds


class MetricsRequest(Request):
    """Points of an attempt; `first` is the number of the first of them."""

    worker: WireWorkerId
    first: Count = 0
    points: Annotated[tuple[Point, ...], Field(max_length=MAX_POINTS)] = ()


class MetricsAnswer(Answer):
    """Points below `next` are on the coordinator's disk; go on from there."""

    next: int


Reading = tuple[int, float | None, float]
"""Step, value (None where it was no number), Unix seconds."""


class JobMetrics(Answer):
    """An attempt's curves in the order of their points, thinned where they are long.

    Each keeps its first and its last point, and of every stretch its lowest and its highest.
    """

    job_id: WireJobId
    attempt: WireAttemptId
    """The current one, or the last; of several that were joined the last with a point."""
    series: dict[str, tuple[Reading, ...]] = Field(default_factory=dict)
    stored: int = 0
    """Points that there are, before thinning."""
