"""How fast an attempt is, from what its heartbeats told so far, and so how long it will still take."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from fleet_protocol.ids import AttemptId
from fleet_protocol.jobs import Progress

LONGEST = 1e10
"""Seconds; what takes longer is three hundred years off, or a first step that has hardly begun."""


@dataclass(frozen=True, slots=True)
class Pace:
    """One attempt's progress, and the first one heard since it counts the same steps."""

    attempt: AttemptId
    first: Progress
    since: datetime
    progress: Progress
    """The latest, with what is left at this pace."""


def paced(before: Pace | None, attempt: AttemptId, told: Progress, now: datetime) -> Pace:
    """The pace after `told` was heard. Steps that count anew, or towards another total, begin it anew."""
    first, since = told, now
    if before and before.attempt == attempt and _goes_on(before.first, told):
        first, since = before.first, before.since
    eta = _eta(first, told, (now - since).total_seconds())
    return Pace(attempt, first, since, told.model_copy(update={"eta_seconds": eta}))


def _goes_on(first: Progress, told: Progress) -> bool:
    return told.total == first.total and told.step >= first.step


def _eta(first: Progress, told: Progress, seconds: float) -> float | None:
    done = told.step - first.step
    if told.total is None or done <= 0 or seconds <= 0:
        return None
    return min(round(max(told.total - told.step, 0) * seconds / done, 1), LONGEST)
