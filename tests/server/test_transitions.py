"""Every transition as a function of values: what it makes of a job, of a repeat, and of a call that comes too late."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from fleet_protocol.ids import AttemptId, JobId, Sha256, WorkerId
from fleet_protocol.states import TRANSITIONS, AttemptStatus, FailureKind, JobStatus, ReleaseReason, Verdict
from fleet_server.errors import StaleAttempt, WrongState
from fleet_server.jobs import transitions
from fleet_server.jobs.model import Attempt, Job
from fleet_server.jobs.transitions import Change, Failure, Policy

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)
POLICY = Policy(max_lost=5, backoff=timedelta(seconds=30), backoff_cap=timedelta(seconds=100))
ARTIFACT, OTHER_ARTIFACT = Sha256("a" * 64), Sha256("b" * 64)
ONE, TWO = AttemptId("1" * 36), AttemptId("2" * 36)
BOX = WorkerId("w" * 36)

PENDING = Job(
    job_id=JobId("0" * 16),
    name="a job",
    model="gbt",
    mode="realistic",
    spec={"max_attempts": 3},
    needs_digest="d" * 16,
    priority=0,
    status=JobStatus.PENDING,
    created_at=NOW,
    queued_at=NOW,
    updated_at=NOW,
)


def attempt(name: AttemptId = ONE, number: int = 1) -> Attempt:
    return Attempt(
        attempt=name,
        job_id=PENDING.job_id,
        number=number,
        worker_id=BOX,
        worker="box",
        claim_id=f"claim {name}",
        status=AttemptStatus.CLAIMED,
        created_at=NOW,
    )


def after(change: Change | None) -> tuple[Job, Attempt]:
    assert change is not None
    assert change.attempt is not None
    return change.job, change.attempt


def claimed(job: Job = PENDING) -> tuple[Job, Attempt]:
    return after(transitions.claimed(job, attempt(), NOW))


def running(job: Job = PENDING) -> tuple[Job, Attempt]:
    return after(transitions.started(*claimed(job), NOW))


def complete(job: Job, held: Attempt, artifact: Sha256 = ARTIFACT) -> Change | None:
    return transitions.completed(
        job, held, LATER, transitions.Result(artifact, {"f1": {"value": 1.0}}, log_bytes=10)
    )


def fail(
    job: Job, held: Attempt, kind: FailureKind = FailureKind.ERROR, policy: Policy = POLICY
) -> Change | None:
    return transitions.failed(job, held, LATER, Failure(kind, "it broke", 1, "tail", 10), policy)


def release(job: Job, held: Attempt) -> Change | None:
    return transitions.released(job, held, LATER, ReleaseReason.DRAINED, "", 10)


def lose(job: Job, held: Attempt, policy: Policy = POLICY) -> Change:
    return transitions.lease_lost(job, held, LATER, "no heartbeat for 600 s", policy)


def cancel_asked(job: Job) -> Job:
    change = transitions.cancelled(job, NOW, "enough")
    assert change is not None
    return change.job


ENDINGS: dict[str, Callable[[Job, Attempt], Change | None]] = {
    "complete": complete,
    "fail": fail,
    "release": release,
}


def test_a_claim_hands_the_job_out():
    job, held = claimed(replace(PENDING, reason="lost", not_before=NOW, avoid_worker_id=BOX))
    assert (job.status, job.attempts, job.attempt, job.worker, job.worker_id) == (
        "claimed",
        1,
        ONE,
        "box",
        BOX,
    )
    assert (job.reason, job.not_before, held.status) == (None, None, AttemptStatus.CLAIMED)


def test_a_start_begins_the_clock():
    job, held = running()
    assert (job.status, job.started_at) == ("running", NOW)
    assert (held.status, held.started_at, held.last_heartbeat_at) == ("running", NOW, NOW)
    assert transitions.started(job, held, LATER) is None, "repeated: nothing more happens"


def test_a_completion_is_final():
    job, held = after(complete(*running()))
    assert (job.status, job.artifact, job.finished_at, job.reason) == ("completed", ARTIFACT, LATER, None)
    assert (held.status, held.artifact, held.ended_at, held.log_bytes) == ("completed", ARTIFACT, LATER, 10)
    assert complete(job, held) is None
    with pytest.raises(StaleAttempt):
        complete(job, held, OTHER_ARTIFACT)
    for change in (
        lambda: transitions.cancelled(job, LATER, ""),
        lambda: transitions.requeued(job, LATER, ""),
        lambda: transitions.claimed(job, attempt(TWO, 2), LATER),
    ):
        with pytest.raises(WrongState):
            change()


@pytest.mark.parametrize("begin", [claimed, running])
def test_a_checkpoint_is_kept_until_the_job_is_completed(begin: Callable[[], tuple[Job, Attempt]]):
    job, held = after(transitions.checkpointed(*begin(), LATER, ARTIFACT))
    assert (job.checkpoint, held.checkpoint, job.status) == (ARTIFACT, ARTIFACT, begin()[0].status)
    assert transitions.checkpointed(job, held, LATER, ARTIFACT) is None, "repeated: nothing more happens"
    newer, _ = after(transitions.checkpointed(job, held, LATER, OTHER_ARTIFACT))
    assert newer.checkpoint == OTHER_ARTIFACT
    for ending in ENDINGS.values():
        ended, over = after(ending(job, held))
        assert over.checkpoint == ARTIFACT
        assert ended.checkpoint == (None if ended.status is JobStatus.COMPLETED else ARTIFACT)
        with pytest.raises(StaleAttempt):
            transitions.checkpointed(ended, over, LATER, ARTIFACT)


def test_the_next_attempts_own_checkpoint_is_news_even_if_the_bytes_are_the_same():
    job, held = after(transitions.checkpointed(*running(), LATER, ARTIFACT))
    again, second = after(transitions.claimed(after(lose(job, held))[0], attempt(TWO, 2), LATER))
    assert again.checkpoint == ARTIFACT
    with pytest.raises(StaleAttempt):
        transitions.checkpointed(again, held, LATER, OTHER_ARTIFACT)
    _, second = after(transitions.checkpointed(again, second, LATER, ARTIFACT))
    assert second.checkpoint == ARTIFACT


@pytest.mark.parametrize(("again", "goes_on"), [(False, ARTIFACT), (True, None)])
def test_a_requeue_goes_on_from_the_checkpoint_unless_it_is_to_begin_anew(
    again: bool, goes_on: Sha256 | None
):
    failed = replace(PENDING, status=JobStatus.FAILED, checkpoint=ARTIFACT)
    assert transitions.requeued(failed, LATER, "", again=again).job.checkpoint == goes_on


@pytest.mark.parametrize("begin", [claimed, running])
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_repeated_ending_changes_nothing(begin: Callable[[], tuple[Job, Attempt]], ending: str):
    job, held = after(ENDINGS[ending](*begin()))
    assert ENDINGS[ending](job, held) is None
    later = replace(job, status=JobStatus.RUNNING, attempt=TWO, attempts=2)
    assert ENDINGS[ending](later, held) is None, "nor once another attempt runs"


@pytest.mark.parametrize("first", ENDINGS)
@pytest.mark.parametrize("second", ["start", *ENDINGS])
def test_the_first_ending_wins(first: str, second: str):
    job, held = after(ENDINGS[first](*running()))
    if first == second:
        return
    with pytest.raises(StaleAttempt) as error:
        transitions.started(job, held, LATER) if second == "start" else ENDINGS[second](job, held)
    assert error.value.current == transitions.truth(job)


@pytest.mark.parametrize("verb", ["start", *ENDINGS])
def test_an_attempt_that_lost_its_lease_changes_nothing(verb: str):
    job, held = after(lose(*running()))
    again, _ = after(transitions.claimed(job, attempt(TWO, 2), LATER))
    for now in (job, again):
        with pytest.raises(StaleAttempt):
            transitions.started(now, held, LATER) if verb == "start" else ENDINGS[verb](now, held)


def test_errors_count_until_the_limit():
    job, waits = PENDING, []
    for number in (1, 2):
        job, held = after(fail(*running(job)))
        assert (job.status, job.errors, job.lost, job.avoid_worker_id) == ("pending", number, 0, BOX)
        assert job.reason == f"attempt 1 failed on box: it broke; error {number} of 3"
        assert (held.status, held.exit_code, held.tail, held.reason) == ("failed", 1, "tail", "it broke")
        assert job.not_before is not None
        waits.append(job.not_before - LATER)
    assert waits == [timedelta(seconds=30), timedelta(seconds=60)]
    job, _ = after(fail(*running(job)))
    assert (job.status, job.errors, job.reason) == ("failed", 3, "it broke (after 3 attempts)")


def test_backoff_doubles_up_to_its_cap():
    patient, waits = replace(PENDING, spec={"max_attempts": 1000}), []
    for errors in (0, 1, 2, 3, 200, 998):
        job, _ = after(fail(*running(replace(patient, errors=errors))))
        assert job.not_before is not None
        waits.append((job.not_before - LATER).total_seconds())
    assert waits == [30, 60, 100, 100, 100, 100]


def test_one_attempt_at_most_means_that_the_first_error_is_the_last():
    job, _ = after(fail(*running(replace(PENDING, spec={"max_attempts": 1}))))
    assert (job.status, job.reason, job.errors) == ("failed", "it broke", 1)


def test_refused_settings_are_not_tried_again_and_missing_data_elsewhere():
    job, _ = after(fail(*running(), FailureKind.REFUSED))
    assert (job.status, job.errors, job.reason) == ("failed", 1, "it broke")
    job, _ = after(fail(*running(), FailureKind.DATA))
    assert (job.status, job.errors, job.avoid_worker_id) == ("pending", 1, BOX)


@pytest.mark.parametrize("by", ["sweep", "agent"])
def test_losses_have_a_count_of_their_own(by: str):
    job = replace(PENDING, errors=2)
    for number in (1, 2, 3, 4):
        change = lose(*running(job)) if by == "sweep" else fail(*running(job), FailureKind.INFRASTRUCTURE)
        job, held = after(change)
        assert (job.status, job.errors, job.lost, held.status) == ("pending", 2, number, "lost")
        assert job.not_before == (None if number == 1 else LATER + transitions.INFRASTRUCTURE_PAUSE)
        assert job.avoid_worker_id == BOX
    job, held = after(lose(*running(job)))
    assert (job.status, job.errors, job.lost, held.status) == ("failed", 2, 5, "lost")
    assert "lost 5 times" in str(job.reason)


def test_a_release_is_nobodys_fault():
    job, held = after(release(*running()))
    assert (job.status, job.errors, job.lost, job.not_before, job.avoid_worker_id) == (
        "pending",
        0,
        0,
        None,
        None,
    )
    assert (held.status, held.reason, job.reason) == ("released", "drained", "given back by box: drained")


def test_a_pending_job_is_cancelled_at_once():
    change = transitions.cancelled(PENDING, NOW, "enough")
    assert change is not None
    assert (change.job.status, change.job.reason, change.detail) == ("cancelled", "enough", "enough")


@pytest.mark.parametrize("begin", [claimed, running])
def test_a_held_job_is_asked_to_stop_first(begin: Callable[[], tuple[Job, Attempt]]):
    job, held = begin()
    asked = cancel_asked(job)
    assert (asked.status, asked.cancel_requested) == (job.status, True)
    assert transitions.cancelled(asked, NOW, "") is None
    assert transitions.verdict(asked, held, BOX)[0] is Verdict.STOP


@pytest.mark.parametrize("ending", [fail, release, lose])
def test_whatever_ends_it_after_a_cancel_makes_it_cancelled(ending: Callable[[Job, Attempt], Change | None]):
    job, held = running(replace(PENDING, errors=2, lost=4))
    ended, over = after(ending(cancel_asked(job), held))
    assert (ended.status, over.status, ended.cancel_requested) == ("cancelled", "cancelled", False)
    assert (ended.errors, ended.lost) == (2, 4)
    if ending is not lose:
        assert ending(ended, over) is None


def test_a_completion_may_still_win_against_a_cancel():
    job, held = running()
    ended, _ = after(complete(cancel_asked(job), held))
    assert (ended.status, ended.cancel_requested) == ("completed", False)


@pytest.mark.parametrize("status", [JobStatus.FAILED, JobStatus.CANCELLED])
def test_a_requeue_starts_anew_and_keeps_the_history(status: JobStatus):
    ended = replace(
        PENDING, status=status, errors=3, lost=5, attempts=8, attempt=ONE, avoid_worker_id=BOX, reason="x"
    )
    job = transitions.requeued(ended, LATER, "again").job
    assert (job.status, job.errors, job.lost, job.attempts, job.attempt) == ("pending", 0, 0, 8, ONE)
    assert (job.queued_at, job.not_before, job.avoid_worker_id, job.reason) == (LATER, None, None, None)


@pytest.mark.parametrize(
    "status", [JobStatus.PENDING, JobStatus.CLAIMED, JobStatus.RUNNING, JobStatus.COMPLETED]
)
def test_only_what_failed_or_was_cancelled_is_requeued(status: JobStatus):
    with pytest.raises(WrongState) as error:
        transitions.requeued(replace(PENDING, status=status), NOW, "")
    assert error.value.current is not None
    again = "requeue --again" if status is JobStatus.COMPLETED else "show"
    assert error.value.next == f"fleet {again} {PENDING.job_id}"


def test_only_an_operator_who_says_again_trains_a_completed_job_anew():
    done = replace(PENDING, status=JobStatus.COMPLETED, generation=2, finished_at=NOW)
    anew = transitions.requeued(done, LATER, "", again=True).job
    assert (anew.status, anew.generation, anew.finished_at) == (JobStatus.PENDING, 3, None)


def test_no_change_goes_along_an_edge_that_is_not_in_the_table():
    for before in JobStatus:
        for status in set(JobStatus) - TRANSITIONS[before] - {before}:
            with pytest.raises(WrongState):
                Change("moved", replace(PENDING, status=before), replace(PENDING, status=status))


def test_verdicts():
    job, held = running()
    assert transitions.verdict(job, held, BOX) == (Verdict.CONTINUE, None)
    assert transitions.verdict(None, None, BOX)[0] is Verdict.UNKNOWN
    assert transitions.verdict(job, held, WorkerId("x" * 36))[0] is Verdict.STOP
    lost, over = after(lose(job, held))
    assert transitions.verdict(lost, over, BOX) == (Verdict.STOP, "no heartbeat for 600 s")
    again, _ = after(transitions.claimed(lost, attempt(TWO, 2), LATER))
    assert transitions.verdict(again, over, BOX)[0] is Verdict.STOP


MINUTE = timedelta(minutes=1)
LEASE = timedelta(minutes=10)


@pytest.mark.parametrize(
    ("started", "beat", "heard", "listening", "expected"),
    [
        (None, None, None, -9, 0),  # claimed and nothing since: from the claim
        (1, None, None, -9, 1),
        (1, 1, 4, -9, 4),  # a heartbeat in memory beats the one written down
        (1, 5, 4, -9, 5),
        (1, 5, 4, 30, 30),  # nobody was listening before
        (1, 5, 40, 30, 40),
    ],
)
def test_a_lease_counts_from_the_latest_of_all(
    started: int | None, beat: int | None, heard: int | None, listening: int, expected: int
):
    at = [None if minutes is None else NOW + minutes * MINUTE for minutes in (started, beat, heard)]
    held = replace(attempt(), started_at=at[0], last_heartbeat_at=at[1])
    assert transitions.expiry(held, at[2], NOW + listening * MINUTE, LEASE) == NOW + expected * MINUTE + LEASE


def test_attempt_numbers_only_grow():
    numbers, job = [], PENDING
    for number in range(1, 6):
        held = replace(attempt(AttemptId(str(number) * 36)), number=job.attempts + 1)
        job, held = after(transitions.claimed(job, held, NOW))
        numbers.append(job.attempts)
        job, _ = after(release(job, held))
    assert all(a < b for a, b in pairwise(numbers))
