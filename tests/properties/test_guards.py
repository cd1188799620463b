"""Guards that only a decision made on an older row can meet, which the one writer never makes: tried by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy import select

from fleet_protocol.ids import Sha256, new_attempt_id, new_worker_id
from fleet_protocol.states import AttemptStatus, JobStatus
from fleet_server.errors import WrongState
from fleet_server.jobs import transitions
from fleet_server.jobs.model import Attempt, Job, job_from
from fleet_server.jobs.record import apply
from fleet_server.jobs.transitions import Change
from fleet_server.tables import jobs
from tests.properties.inline import Backup, Stage, drive
from tests.properties.seeded import begin_again


@pytest.fixture
def pending(stage: Stage, beginning: Backup) -> Job:
    begin_again(stage, beginning)
    with stage.connection.begin():
        return job_from(stage.connection.execute(select(jobs).limit(1)).mappings().one())


def _write(stage: Stage, change: Callable[[], Change | None]) -> None:
    decided = change()
    assert decided is not None
    drive(stage.database.writer.run(lambda tx: apply(tx, decided, "operator")))


def test_a_decision_on_a_row_with_another_status_touches_nothing(stage: Stage, pending: Job):
    _write(stage, lambda: transitions.cancelled(pending, stage.clock.now(), ""))
    before = stage.fetch("SELECT * FROM jobs ORDER BY job_id"), stage.fetch("SELECT count(*) FROM events")
    with pytest.raises(WrongState):
        _write(stage, lambda: transitions.cancelled(pending, stage.clock.now(), ""))
    assert before == (
        stage.fetch("SELECT * FROM jobs ORDER BY job_id"),
        stage.fetch("SELECT count(*) FROM events"),
    )


def test_a_decision_on_an_older_version_of_the_same_status_touches_nothing(stage: Stage, pending: Job):
    _write(stage, lambda: Change("rescheduled", pending, replace(pending, priority=1)))
    with pytest.raises(WrongState):
        _write(stage, lambda: Change("rescheduled", pending, replace(pending, priority=2)))
    assert stage.fetch(f"SELECT priority FROM jobs WHERE job_id = '{pending.job_id}'") == [(1,)]


def test_no_change_leaves_the_table_of_transitions(stage: Stage, pending: Job):
    with pytest.raises(WrongState):
        Change("started", pending, replace(pending, status=JobStatus.RUNNING))


@pytest.mark.parametrize("status", [JobStatus.COMPLETED, JobStatus.CLAIMED, JobStatus.RUNNING])
def test_a_late_artifact_takes_no_job_that_is_completed_or_held(pending: Job, status: JobStatus):
    late = Attempt(
        attempt=new_attempt_id(),
        job_id=pending.job_id,
        number=1,
        worker_id=new_worker_id(),
        worker="box",
        claim_id="claim",
        status=AttemptStatus.LOST,
        created_at=pending.created_at,
    )
    result = transitions.Result(Sha256("a" * 64), {})
    with pytest.raises(WrongState):
        transitions.accepted(replace(pending, status=status), late, pending.created_at, result, "")
