"""What an operator may do to jobs and workers from here: who it applies to, how it is asked, what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fleet_client.errors import FleetError
from fleet_protocol.jobs import JobView
from fleet_protocol.states import JobStatus
from fleet_protocol.workers import WorkerView
from fleet_tui.text import one_line
from fleet_tui.transport import Coordinator

Verb = Literal["cancel", "requeue", "drain", "resume"]
Target = JobView | WorkerView
APPLIES: dict[Verb, frozenset[JobStatus]] = {
    "cancel": frozenset({JobStatus.PENDING, JobStatus.CLAIMED, JobStatus.RUNNING}),
    "requeue": frozenset({JobStatus.FAILED, JobStatus.CANCELLED}),
}
ALLOWED: dict[Verb, str] = {
    "cancel": "only a pending, claimed or running job can be cancelled",
    "requeue": "only a failed or cancelled job can be requeued",
}
DONE: dict[Verb, str] = {
    "cancel": "cancelled",
    "requeue": "requeued",
    "drain": "takes no new jobs any more:",
    "resume": "takes jobs again:",
}
READ_ONLY = "read-only: orders need the operator's token in FLEET_TOKEN"
REASON = "from the dashboard"


@dataclass(frozen=True, slots=True)
class Order:
    """A verb and the jobs or workers it was asked for, frozen when the question is put."""

    verb: Verb
    targets: tuple[Target, ...]

    @property
    def kind(self) -> str:
        return "worker" if isinstance(self.targets[0], WorkerView) else "job"


def order_for(verb: Verb, targets: Sequence[Target]) -> Order | str:
    """What to ask the operator to confirm, or why there is nothing to ask."""
    if verb in ("drain", "resume"):
        return _worker_order(verb, [one for one in targets if isinstance(one, WorkerView)])
    jobs = [one for one in targets if isinstance(one, JobView)]
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


def _worker_order(verb: Verb, workers: Sequence[WorkerView]) -> Order | str:
    able = tuple(worker for worker in workers if worker.draining is (verb == "resume"))
    if able:
        return Order(verb, able)
    if not workers:
        return "no worker is selected"
    state = "takes jobs already" if verb == "resume" else "is drained already"
    return f"{_named(workers)}: {state}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Rows after an order, and one sentence for the result line."""

    rows: tuple[Target, ...]
    sentence: str
    ok: bool


async def carry_out(coordinator: Coordinator, order: Order) -> Outcome:
    """Give the order for each of its targets; a refusal of one does not keep it from the others."""
    rows: list[Target] = []
    refusals: list[str] = []
    for target in order.targets:
        try:
            rows.append(await _give(coordinator, order.verb, target))
        except FleetError as error:
            advice = f" – {error.next}" if error.next else ""
            refusals.append(one_line(f"{target.name}: {error}{advice}"))
    return Outcome(tuple(rows), _sentence(order, rows, refusals), ok=not refusals)


async def _give(coordinator: Coordinator, verb: Verb, target: Target) -> Target:
    if isinstance(target, WorkerView):
        give = coordinator.drain if verb == "drain" else coordinator.resume
        return await give(target.worker, REASON)
    order = coordinator.cancel if verb == "cancel" else coordinator.requeue
    return await order(target.job_id, REASON)


def _sentence(order: Order, rows: Sequence[Target], refusals: Sequence[str]) -> str:
    parts = []
    stopping = [
        row
        for row in rows
        if isinstance(row, JobView) and row.cancel_requested and not row.status.is_terminal
    ]
    if stopping:
        parts.append(f"{_named(stopping)}: told to stop")
    if done := [row for row in rows if row not in stopping]:
        parts.append(f"{DONE[order.verb]} {_named(done)}")
    return "; ".join([*parts, *refusals])


def _named(targets: Sequence[Target]) -> str:
    kind = "workers" if isinstance(targets[0], WorkerView) else "jobs"
    return one_line(targets[0].name) if len(targets) == 1 else f"{len(targets)} {kind}"
