"""What an operator may do to jobs from here: who it applies to, how it is asked, what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fleet_client.errors import FleetError
from fleet_protocol.jobs import JobView
from fleet_protocol.states import JobStatus
from fleet_tui.text import one_line
from fleet_tui.transport import Coordinator

Verb = Literal["cancel", "requeue"]
APPLIES: dict[Verb, frozenset[JobStatus]] = {
    "cancel": frozenset({JobStatus.PENDING, JobStatus.CLAIMED, JobStatus.RUNNING}),
    "requeue": frozenset({JobStatus.FAILED, JobStatus.CANCELLED}),
}
ALLOWED: dict[Verb, str] = {
    "cancel": "only a pending, claimed or running job can be cancelled",
    "requeue": "only a failed or cancelled job can be requeued",
}
DONE: dict[Verb, str] = {"cancel": "cancelled", "requeue": "requeued"}
READ_ONLY = "read-only: this token may only look; cancel and requeue need the operator's token in FLEET_TOKEN"
REASON = "from the dashboard"


@dataclass(frozen=True, slots=True)
class Order:
    """A verb and the jobs it was asked for, frozen when the question is put."""

    verb: Verb
    jobs: tuple[JobView, ...]


def order_for(verb: Verb, jobs: Sequence[JobView]) -> Order | str:
    """What to ask the operator to confirm, or why there is nothing to ask."""
    able = tuple(job for job in jobs if job.status in APPLIES[verb] and not job.cancel_requested)
    if able:
        return Order(verb, able)
    if not jobs:
        return "no job is selected"
    if any(job.cancel_requested for job in jobs) and verb == "cancel":
        return f"{one_line(jobs[0].name)} is being stopped already"
    if len(jobs) > 1:
        return ALLOWED[verb]
    return f"{one_line(jobs[0].name)} is {jobs[0].status}: {ALLOWED[verb]}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Rows after an order, and one sentence for the result line."""

    rows: tuple[JobView, ...]
    sentence: str
    ok: bool


async def carry_out(coordinator: Coordinator, order: Order) -> Outcome:
    """Give the order for each of its jobs; a refusal of one does not keep it from the others."""
    rows: list[JobView] = []
    refusals: list[str] = []
    give = coordinator.cancel if order.verb == "cancel" else coordinator.requeue
    for job in order.jobs:
        try:
            rows.append(await give(job.job_id, REASON))
        except FleetError as error:
            advice = f" – {error.next}" if error.next else ""
            refusals.append(one_line(f"{job.name}: {error}{advice}"))
    return Outcome(tuple(rows), _sentence(order, rows, refusals), ok=not refusals)


def _sentence(order: Order, rows: Sequence[JobView], refusals: Sequence[str]) -> str:
    parts = []
    stopping = [job for job in rows if job.cancel_requested and not job.status.is_terminal]
    if stopping:
        parts.append(f"{_named(stopping)}: told to stop")
    if done := [job for job in rows if job not in stopping]:
        parts.append(f"{DONE[order.verb]} {_named(done)}")
    return "; ".join([*parts, *refusals])


def _named(jobs: Sequence[JobView]) -> str:
    return one_line(jobs[0].name) if len(jobs) == 1 else f"{len(jobs)} jobs"
