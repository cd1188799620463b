"""Statuses of jobs and attempts, and which job status may follow which.

The table is the whole state machine's outline; who may ask for a change, and what else must hold, is
decided in the coordinator's transitions, which can only go along these edges.
"""

from __future__ import annotations

from enum import StrEnum


class JobStatus(StrEnum):
    PENDING = "pending"  # waits for a worker
    CLAIMED = "claimed"  # handed to a worker that has not reported the start yet
    RUNNING = "running"
    COMPLETED = "completed"  # a verified artifact exists; final
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_active(self) -> bool:
        """An attempt holds the job's lease."""
        return self in (JobStatus.CLAIMED, JobStatus.RUNNING)

    @property
    def is_terminal(self) -> bool:
        return self in (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED)


class AttemptStatus(StrEnum):
    CLAIMED = "claimed"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"  # the trainer ended with an error
    RELEASED = "released"  # given back without blame: drained, or never started
    LOST = "lost"  # the lease ran out, or the machine says that the trainer is gone
    CANCELLED = "cancelled"

    @property
    def is_open(self) -> bool:
        return self in (AttemptStatus.CLAIMED, AttemptStatus.RUNNING)


class LogState(StrEnum):
    """What became of an attempt's log; an attempt that is under way has none of these yet."""

    LIVE = "live"
    COMPLETE = "complete"  # every byte that was printed is here, save for holes that say so
    PARTIAL = "partial"  # the attempt is over, and the agent never brought the rest
    EXPIRED = "expired"  # only the beginning and the end were kept


class Verdict(StrEnum):
    """What the coordinator tells a worker about one of its attempts."""

    CONTINUE = "continue"
    STOP = "stop"  # the lease is gone or the job was cancelled: end the trainer
    UNKNOWN = "unknown"  # never heard of it: keep training and raise an alarm, it may be a restored backup


class FailureKind(StrEnum):
    ERROR = "error"  # the trainer ended with an error; counts towards max_attempts
    REFUSED = "refused"  # exit 2: the trainer refuses the job's settings; trying again cannot help
    DATA = "data"  # exit 3: data missing or wrong here; another host may do better
    INFRASTRUCTURE = "infrastructure"  # not the job's fault: no exit status, could not spawn, disk full


class ReleaseReason(StrEnum):
    DRAINED = "drained"  # the worker was asked to go away; the trainer checkpointed and exited 75
    NOT_STARTED = "not_started"
    STOPPED = "stopped"  # the trainer was ended because the coordinator said stop


P, C, R, DONE = JobStatus.PENDING, JobStatus.CLAIMED, JobStatus.RUNNING, JobStatus.COMPLETED

TRANSITIONS: dict[JobStatus, frozenset[JobStatus]] = {
    P: frozenset({C, DONE, JobStatus.CANCELLED}),  # done: an operator accepts a late artifact
    C: frozenset({R, P, DONE, JobStatus.FAILED, JobStatus.CANCELLED}),
    R: frozenset({P, DONE, JobStatus.FAILED, JobStatus.CANCELLED}),
    JobStatus.FAILED: frozenset({P, DONE}),
    JobStatus.CANCELLED: frozenset({P, DONE}),
    DONE: frozenset({P}),  # only by an operator who says --again
}

del P, C, R, DONE
