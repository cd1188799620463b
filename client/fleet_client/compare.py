"""What tells jobs apart: values in, rows out. No ranking: whether more of a metric is better, only its reader knows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from fleet_protocol.jobs import JobDetail, Metric

TESTED_ON = ("dataset", "split_recipe", "train_hosts")
"""Where these differ, so does what the metrics were measured on; where recordings are drawn, by the seed too."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One field and each job's value as JSON, in the order of the jobs."""

    field: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Standing:
    """One job's figure beside the first job's."""

    metric: str
    job: int
    figure: Metric | None
    difference: float | None
    verdict: str


def identity(job: JobDetail) -> dict[str, object]:
    """What makes the job's id, flat; and `n_resamples`, which makes the intervals."""
    spec = job.spec
    keys = ("model", "mode", "split_recipe", "train_hosts", "seed", "n_resamples")
    fields: dict[str, object] = {key: getattr(spec, key) for key in keys}
    fields["dataset"] = spec.dataset and spec.dataset.sha256
    fields["source"] = spec.program and spec.program.source
    fields["command"] = spec.program and spec.program.command
    return fields | {f"hyper.{key}": value for key, value in spec.hyper.items()}


def differences(rows: Sequence[Mapping[str, object]]) -> list[Difference]:
    """The fields in which not all rows agree; an absent one is `-`."""
    fields = dict.fromkeys(field for row in rows for field in row)
    told = {
        field: tuple(json.dumps(row[field], sort_keys=True) if field in row else "-" for row in rows)
        for field in fields
    }
    return [Difference(field, values) for field, values in told.items() if len(set(values)) > 1]


def standings(jobs: Sequence[JobDetail]) -> list[Standing]:
    """Every metric of every job against the first job's."""
    names = dict.fromkeys(name for job in jobs for name in job.metrics)
    found = []
    for name in names:
        first = jobs[0].metrics.get(name)
        for number, job in enumerate(jobs):
            mine = job.metrics.get(name)
            apart = mine.value - first.value if number and mine and first else None
            alike = tested_alike(jobs[0], job)
            said = verdict(first, mine, alike=alike) if apart is not None and mine and first else ""
            found.append(Standing(name, number, mine, apart, said))
    return found


def tested_alike(one: JobDetail, other: JobDetail) -> bool:
    apart = {difference.field for difference in differences([identity(one), identity(other)])}
    drawn = {"seed"} if one.spec.split_recipe == "sample" else set()
    return apart.isdisjoint({*TESTED_ON, *drawn})


def verdict(one: Metric, other: Metric, *, alike: bool) -> str:
    """What the two intervals allow to be said: overlapping ones leave it open, and prove nothing equal."""
    if not alike:
        return "tested on other data"
    if one.value == other.value:
        return "equal"
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return "no interval: unknown"
    if other.low > one.high or other.high < one.low:
        return "beyond the intervals"
    inside = one.low <= other.value <= one.high and other.low <= one.value <= other.high
    return "within the intervals" if inside else "intervals overlap: open"


def trained_for(job: JobDetail, now: datetime) -> timedelta:
    """The time its attempts ran, all together."""
    spans = (((one.ended_at or now) - one.started_at) for one in job.history if one.started_at)
    return sum(spans, timedelta())


def same_artifacts(jobs: Sequence[JobDetail]) -> bool | None:
    """Whether all have the same bytes; None while one has no artifact."""
    digests = [job.artifact for job in jobs]
    return None if None in digests else all(one == other for one, other in pairwise(digests))
