"""What ought to become of jobs: the promises in as few words as they can be said, with no database in it.

Each call returns the kind of event that it has to cause, None where it must cause none, or raises `Refused`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tests.properties.inline import BACKOFF, BACKOFF_CAP, HEARTBEAT, LEASE, MAX_LOST, START, SWEEP

ACTIVE = {"claimed", "running"}


class Refused(Exception):
    """The code with which the coordinator has to refuse."""


@dataclass(slots=True)
class Work:
    """A job."""

    max_attempts: int
    lease: int
    status: str = "pending"
    attempts: int = 0
    errors: int = 0
    lost: int = 0
    generation: int = 0
    holder: str | None = None
    cancel: bool = False
    not_before: datetime | None = None
    avoid: str | None = None
    checkpoint: str | None = None
    wins: dict[int, int] = field(default_factory=dict)
    """Completions by generation."""


@dataclass(slots=True)
class Try:
    """An attempt, and what its agent has said about it so far."""

    job: str
    worker: str
    claim: str
    heard: datetime
    status: str = "claimed"
    words: set[tuple[object, ...]] = field(default_factory=set)
    """What its agent said of its end and was believed; the same again is no news."""
    uploads: set[str] = field(default_factory=set)
    checkpoint: str | None = None

    @property
    def is_open(self) -> bool:
        return self.status in ACTIVE


@dataclass(slots=True)
class Reference:
    listening: datetime
    looked: datetime
    works: dict[str, Work]
    tries: dict[str, Try] = field(default_factory=dict)
    blobs: set[str] = field(default_factory=set)

    def claim(self, job: str, attempt: str, worker: str, claim: str, *, now: datetime) -> None:
        """A claim was answered with this attempt, which it must have been allowed to be."""
        work = self.works[job]
        assert work.status == "pending", "only a pending job is handed out"
        assert not work.cancel, "J12: a cancelled job is never handed out"
        assert work.not_before is None or work.not_before <= now, "not before its wait is over"
        assert attempt not in self.tries, "J5: no attempt's UUID comes twice"
        self.tries[attempt] = Try(job, worker, claim, now)
        work.attempts += 1
        work.status, work.holder, work.not_before = "claimed", attempt, None

    def say(
        self, verb: str, word: tuple[object, ...], job: str, attempt: str, worker: str, *, now: datetime
    ) -> str | None:
        """start, complete, fail or release, by a worker about an attempt."""
        if job not in self.works:
            raise Refused("unknown_job")
        held = self.tries.get(attempt)
        if held is None or held.job != job:
            raise Refused("unknown_attempt")
        if held.worker != worker:
            raise Refused("stale_attempt")
        if verb == "complete" and word[0] not in held.uploads:
            raise Refused("artifact_missing")
        if self._is_repeated(verb, word, held):
            return None
        work = self.works[job]
        if not held.is_open or work.holder != attempt or work.status not in ACTIVE:
            raise Refused("stale_attempt")
        if verb == "start":
            held.status, held.heard, work.status = "running", now, "running"
            return "started"
        held.words.add((verb, *word))
        if verb == "complete":
            held.status = "completed"
            self._win(work)
            return "completed"
        return self._again(work, held, verb, word, now)

    def checkpoint(self, checkpoint: str, attempt: str, worker: str) -> str | None:
        """A worker says from what the job would go on."""
        held = self.tries.get(attempt)
        if held is None:
            raise Refused("unknown_attempt")
        work = self.works[held.job]
        if held.worker != worker or not held.is_open or work.holder != attempt or work.status not in ACTIVE:
            raise Refused("stale_attempt")
        if checkpoint not in self.blobs:
            raise Refused("blob_missing")
        if (work.checkpoint, held.checkpoint) == (checkpoint, checkpoint):
            return None
        work.checkpoint = held.checkpoint = checkpoint
        return "checkpointed"

    @staticmethod
    def _is_repeated(verb: str, word: tuple[object, ...], held: Try) -> bool:
        if verb == "start":
            return held.status == "running"
        if verb == "release":
            return held.status in {"released", "cancelled"}
        return not held.is_open and (verb, *word) in held.words

    def _win(self, work: Work) -> None:
        work.status, work.cancel, work.not_before, work.avoid = "completed", False, None, None
        work.checkpoint = None
        work.wins[work.generation] = work.wins.get(work.generation, 0) + 1
        assert work.wins[work.generation] == 1, "J2: a generation completes once"

    def _again(self, work: Work, held: Try, verb: str, word: tuple[object, ...], now: datetime) -> str:
        """An attempt ended without an artifact."""
        if work.cancel:
            held.status = work.status = "cancelled"
            work.cancel = False
            return "cancelled"
        held.status = {"release": "released", "fail": "failed"}.get(verb, verb)
        if verb == "release":
            work.status, work.not_before, work.avoid = "pending", None, None
            return "released"
        if verb == "lost" or word[0] == "infrastructure":
            work.lost += 1
            if work.lost >= MAX_LOST:
                work.status = "failed"
                return "failed"
            wait = 10 if work.lost > 1 else 0
            kind = "lost"
        else:
            work.errors += 1
            if word[0] == "refused" or work.errors >= work.max_attempts:
                work.status = "failed"
                return "failed"
            wait = min(BACKOFF * 2 ** (work.errors - 1), BACKOFF_CAP)
            kind = "retried"
        work.status, work.avoid = "pending", held.worker
        work.not_before = now + timedelta(seconds=wait) if wait else None
        return kind

    def verdict(self, attempt: str, worker: str, now: datetime) -> str:
        """What a heartbeat is answered; only `continue` extends the lease."""
        held = self.tries.get(attempt)
        if held is None:
            return "unknown"
        if not held.is_open or held.worker != worker or self.works[held.job].holder != attempt:
            return "stop"
        if self.works[held.job].cancel:
            return "stop"
        held.heard = now
        return "continue"

    def sweep(self, now: datetime) -> list[tuple[str, str]]:
        """The jobs that a look at this time has to take back, no more and no fewer."""
        if now - self.looked > timedelta(seconds=HEARTBEAT + SWEEP):
            self.listening = now
        self.looked = now
        late = []
        for held in self.tries.values():
            work = self.works[held.job]
            lease = work.lease if held.status == "running" else min(work.lease, START)
            if held.is_open and now > max(held.heard, self.listening) + timedelta(seconds=lease):
                late.append((held.job, self._again(work, held, "lost", (), now)))
        return late

    def cancel(self, job: str) -> str | None:
        work = self.works[job]
        if work.status in ACTIVE:
            asked_before, work.cancel = work.cancel, True
            return None if asked_before else "cancel_requested"
        if work.status != "pending":
            raise Refused("wrong_state")
        work.status = "cancelled"
        return "cancelled"

    def requeue(self, job: str, again: bool) -> str:
        work = self.works[job]
        if work.status not in {"failed", "cancelled"} and not (again and work.status == "completed"):
            raise Refused("wrong_state")
        work.generation += work.status == "completed"
        work.status, work.errors, work.lost, work.cancel = "pending", 0, 0, False
        work.not_before = work.avoid = None
        work.checkpoint = None if again else work.checkpoint
        return "requeued"

    def accept(self, job: str, attempt: str, artifact: str | None) -> str:
        """By hand; `artifact` is what the coordinator took, one of those that the attempt brought."""
        held = self.tries.get(attempt)
        if held is None or held.job != job or not held.uploads:
            raise Refused("artifact_missing")
        work = self.works[job]
        if work.status == "completed" or work.status in ACTIVE:
            raise Refused("wrong_state")
        assert artifact in held.uploads
        held.words = {word for word in held.words if word[0] != "complete"} | {("complete", artifact)}
        held.status, work.holder = "completed", attempt
        self._win(work)
        return "accepted"

    def restart(self, now: datetime) -> None:
        self.listening = self.looked = now


def works(leases: dict[str, tuple[int, int | None]]) -> dict[str, Work]:
    """New jobs from their `max_attempts` and their own lease, if they have one."""
    return {job: Work(most, lease or LEASE) for job, (most, lease) in leases.items()}
