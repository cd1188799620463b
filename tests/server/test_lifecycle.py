"""Whatever is asked, in whatever order, by whomever, how often and how late: the promises about jobs hold.

Drives the real writer, the transitions and the one function that writes them, on a real SQLite file.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import RowMapping, select

from fleet_protocol.ids import AttemptId, JobId, Sha256, WorkerId, new_attempt_id
from fleet_protocol.manifest import parse
from fleet_protocol.states import TRANSITIONS, AttemptStatus, FailureKind, JobStatus, ReleaseReason
from fleet_server.database import Database, Transaction
from fleet_server.errors import StaleAttempt, WrongState
from fleet_server.jobs import transitions
from fleet_server.jobs.model import Attempt, Job
from fleet_server.jobs.queries import all_jobs, job_and_attempt, job_row
from fleet_server.jobs.record import add_jobs, apply
from fleet_server.jobs.transitions import Change, Failure, Policy
from fleet_server.manifest.plan import decide
from fleet_server.tables import attempts as attempt_rows
from fleet_server.tables import events as event_rows
from tests.server.coordinator import FakeClock, job, manifest

T = TypeVar("T")
POLICY = Policy(max_lost=3, backoff=timedelta(seconds=30), backoff_cap=timedelta(seconds=60))
WORKERS = [WorkerId(name * 36) for name in "ab"]
Decide = Callable[[Job, Attempt, Transaction], Change | None]


def _complete(artifact: str) -> Decide:
    return lambda job, held, tx: transitions.completed(
        job, held, tx.now, transitions.Result(Sha256(artifact * 64), {})
    )


def _fail(kind: FailureKind) -> Decide:
    return lambda job, held, tx: transitions.failed(
        job, held, tx.now, Failure(kind, f"it broke: {kind}", 1), POLICY
    )


def _release(job: Job, held: Attempt, tx: Transaction) -> Change | None:
    return transitions.released(job, held, tx.now, ReleaseReason.DRAINED, "", None)


def _start(job: Job, held: Attempt, tx: Transaction) -> Change | None:
    return transitions.started(job, held, tx.now)


CALLS: dict[str, Decide] = {
    "start": _start,
    "complete a": _complete("a"),
    "complete b": _complete("b"),
    "release": _release,
    **{f"fail {kind}": _fail(kind) for kind in FailureKind},
}


class Lifecycle(RuleBasedStateMachine):
    attempts: Bundle[tuple[JobId, AttemptId]] = Bundle("attempts")

    def __init__(self, empty_database: Path) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        shutil.copy(empty_database, self.folder / "db")
        self.clock = FakeClock()
        self.loop = asyncio.new_event_loop()
        self.database = Database(f"sqlite:///{self.folder / 'db'}", self.clock)
        self.loop.run_until_complete(self._begin())

    async def _begin(self) -> None:
        self.database.writer.start()

    def teardown(self) -> None:
        self.loop.run_until_complete(self.database.close())
        self.loop.close()
        shutil.rmtree(self.folder)

    def write(self, operation: Callable[[Transaction], T]) -> T:
        return self.loop.run_until_complete(self.database.writer.run(operation))

    def events(self) -> list[RowMapping]:
        return self.write(
            lambda tx: list(tx.connection.execute(select(event_rows).order_by(event_rows.c.event)).mappings())
        )

    @initialize()
    def submit(self) -> None:
        wanted = parse(manifest(job("one", max_attempts=2), job("two", max_attempts=1, seed=1))).jobs
        decision = decide(wanted, {}, [], self.clock.now())
        self.write(lambda tx: add_jobs(tx, decision.new, "operator"))
        self.job_ids = sorted(entry.job_id for entry in wanted)

    @rule(target=attempts, which=st.integers(0, 1), worker=st.sampled_from(WORKERS))
    def claim(self, which: int, worker: WorkerId):
        def operate(tx: Transaction) -> AttemptId | None:
            found = job_row(tx.connection, self.job_ids[which])
            if found.status is not JobStatus.PENDING:
                return None
            held = Attempt(
                attempt=new_attempt_id(),
                job_id=found.job_id,
                number=found.attempts + 1,
                worker_id=worker,
                worker=worker[0],
                claim_id=str(uuid4()),
                status=AttemptStatus.CLAIMED,
                created_at=tx.now,
            )
            apply(tx, transitions.claimed(found, held, tx.now), f"agent:{worker[0]}")
            return held.attempt

        held = self.write(operate)
        return (self.job_ids[which], held) if held else multiple()

    @rule(held=attempts, call=st.sampled_from(sorted(CALLS)), times=st.integers(1, 3))
    def report(self, held: tuple[JobId, AttemptId], call: str, times: int) -> None:
        """A worker's call, right or stale, sent as often as its answer is lost."""

        def operate(tx: Transaction) -> tuple[bool, JobStatus]:
            job, attempt = job_and_attempt(tx.connection, *held)
            change = CALLS[call](job, attempt, tx)
            return change is not None, (apply(tx, change, "agent") if change else job).status

        before = self.write(lambda tx: job_and_attempt(tx.connection, *held))
        holds = before[0].attempt == held[1] and before[1].status.is_open
        answers: list[JobStatus | str] = []
        for number in range(times):
            written = len(self.events())
            try:
                changed, status = self.write(operate)
                answers.append(status)
            except StaleAttempt:
                changed = False
                answers.append("stale")
            assert not changed or (holds and number == 0), "J3, J7: only the current token acts, and once"
            assert len(self.events()) == written + changed
        assert len(set(answers)) == 1, "J7: a repeat gets the same answer"

    @rule(held=consumes(attempts))
    def lose(self, held: tuple[JobId, AttemptId]) -> None:
        """What the sweep does to an attempt that holds a lease."""

        def operate(tx: Transaction) -> None:
            job, attempt = job_and_attempt(tx.connection, *held)
            if attempt.status.is_open:
                apply(tx, transitions.lease_lost(job, attempt, tx.now, "silence", POLICY), "coordinator")

        self.write(operate)

    @rule(which=st.integers(0, 1), requeue=st.booleans())
    def order(self, which: int, requeue: bool) -> None:
        def operate(tx: Transaction) -> None:
            found = job_row(tx.connection, self.job_ids[which])
            decide = transitions.requeued if requeue else transitions.cancelled
            change = decide(found, tx.now, "")
            if change is not None:
                apply(tx, change, "operator")

        with contextlib.suppress(WrongState):
            self.write(operate)

    @rule(seconds=st.integers(1, 100))
    def time_passes(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @invariant()
    def one_attempt_holds_a_job(self) -> None:
        held: dict[str, list[str]] = defaultdict(list)
        numbers: dict[str, list[int]] = defaultdict(list)
        rows = self.write(
            lambda tx: (
                tx.connection.execute(select(attempt_rows).order_by(attempt_rows.c.number)).mappings().all()
            )
        )
        for row in rows:
            numbers[row["job_id"]].append(row["number"])
            if row["status"] in (AttemptStatus.CLAIMED, AttemptStatus.RUNNING):
                held[row["job_id"]].append(row["attempt"])
        for found in self.write(lambda tx: all_jobs(tx.connection)):
            expected = [found.attempt] if found.status.is_active else []
            assert held[found.job_id] == expected, "J1"
            assert numbers[found.job_id] == list(range(1, found.attempts + 1)), "J5"
            assert found.errors <= int(found.spec["max_attempts"]), "J10"
            assert found.lost <= POLICY.max_lost

    @invariant()
    def the_history_tells_the_rows(self) -> None:
        last: dict[str, RowMapping] = {}
        completions: dict[str, int] = defaultdict(int)
        for number, event in enumerate(self.events(), start=1):
            assert event["event"] == number
            before = JobStatus(last[event["job_id"]]["row"]["status"]) if event["job_id"] in last else None
            status = JobStatus(event["row"]["status"])
            assert before is None or status is before or status in TRANSITIONS[before]
            if before and before.is_terminal:
                assert event["kind"] == "requeued", "J4"
            completions[event["job_id"]] += event["kind"] == "completed"
            last[event["job_id"]] = event
        assert all(count <= 1 for count in completions.values()), "J2"
        found = self.write(lambda tx: all_jobs(tx.connection))
        assert sorted(entry.job_id for entry in found) == getattr(self, "job_ids", []), "J6"
        for entry in found:
            assert entry.version == last[entry.job_id]["event"]
            assert entry.view().model_dump(mode="json") == last[entry.job_id]["row"], "J8"


def test_the_promises_hold(empty_database: Path):
    run_state_machine_as_test(
        lambda: Lifecycle(empty_database),  # type: ignore[arg-type]  # it takes a factory as well
        settings=settings(
            max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
