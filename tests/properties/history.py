"""One history: steps that anybody may take at any time, each compared with the reference and with the promises."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, TypeVar
from uuid import UUID

from sqlalchemy import bindparam, func, select

from fleet_protocol.capability import Capability
from fleet_protocol.ids import AttemptId, JobId, Sha256, WorkerId
from fleet_protocol.jobs import AcceptRequest, RequeueRequest
from fleet_protocol.plan import ReloadRequest
from fleet_protocol.states import FailureKind, ReleaseReason, Verdict
from fleet_protocol.workers import (
    CheckpointRequest,
    ClaimAnswer,
    CompleteRequest,
    FailRequest,
    HeartbeatRequest,
    HelloRequest,
    LocalAttempt,
    ReleaseRequest,
    StartRequest,
)
from fleet_server.artifacts.queries import save_upload
from fleet_server.blobs.queries import save as save_blob
from fleet_server.database import Transaction
from fleet_server.errors import Refusal
from fleet_server.jobs.model import job_from
from fleet_server.jobs.queries import job_and_attempt, job_row, open_attempts
from fleet_server.jobs.transitions import verdict
from fleet_server.matching.loop import Waiting
from fleet_server.tables import events, jobs
from fleet_server.workers.leases import Lease
from tests.properties.inline import HEARTBEAT, LEASE, START, SWEEP, Backup, Stage, drive
from tests.properties.reference import Reference, Refused, works
from tests.server.coordinator import CAPABILITY, job, manifest

T = TypeVar("T")
CARD = {"kind": "cuda", "name": "card", "vram_gib": 8.0}
WORKERS: dict[str, dict[str, Any]] = {
    "ant": {},
    "bee": {"gpus": [CARD], "max_jobs": 2},
    "cat": {"ram_gib": 6.0},
}
IDS = {name: WorkerId(str(UUID(int=number + 1))) for number, name in enumerate(WORKERS)}
NOBODY = AttemptId(str(UUID(int=99)))
ENTRIES = [
    job("plain", max_attempts=2),
    job("once", max_attempts=1, seed=1, priority=1),
    job("quick", seed=2, lease=50),
    job("card", seed=3, prefer_cuda=True, prefer_wait=60),
]
CHANGED = {
    "as it was": manifest(*ENTRIES),
    "another priority": manifest(*ENTRIES[:3], {**ENTRIES[3], "priority": 5}),
    "one job fewer": manifest(*ENTRIES[1:]),
    "no manifest": "schema_version = 2",
}
DIGESTS = [Sha256(letter * 64) for letter in "ab"]
CHECKPOINTS = [Sha256(letter * 64) for letter in "cde"]


STANDING = (
    "SELECT job_id, version, status, attempts, errors, lost, generation, attempt, cancel_requested, not_before, "
    "checkpoint "
    "FROM jobs"
)
OPEN_ATTEMPTS = "SELECT job_id, attempt FROM attempts WHERE status IN ('claimed', 'running')"
EVENTS_AFTER = select(events).where(events.c.event > bindparam("after")).order_by(events.c.event)


class Choice(Protocol):
    """Where the steps get what is up to chance: a seeded generator, or Hypothesis."""

    def of(self, options: Sequence[T]) -> T: ...


@dataclass(slots=True)
class Held:
    """What an agent remembers of an answered claim, whatever the coordinator thinks by now."""

    job: JobId
    attempt: AttemptId
    worker: WorkerId
    claim: str


Said = tuple[str, Held, object]
"""A call of a worker: the verb, the attempt, and what it said of it."""


@dataclass(slots=True)
class History:
    stage: Stage
    choice: Choice
    sometimes: Counter[str]
    held: list[Held] = field(default_factory=list)
    reference: Reference = field(init=False)
    backup: tuple[Backup, Reference, int, list[Said]] | None = None
    acknowledged: list[Said] = field(default_factory=list)
    ghosts: set[str] = field(default_factory=set)
    """Attempts that a restored database has never heard of."""
    logs: dict[str, bytes] = field(default_factory=dict)
    seen: int = 0
    expected: list[tuple[str, str]] = field(default_factory=list)
    claims: int = 0

    @property
    def now(self) -> datetime:
        return self.stage.clock.now()

    def begin(self) -> None:
        with self.stage.connection.begin():
            rows = [job_from(row) for row in self.stage.connection.execute(select(jobs)).mappings()]
            self.seen = self.stage.connection.scalar(select(func.max(events.c.event))) or 0
        self.reference = Reference(
            self.now,
            self.now,
            works({row.job_id: (row.spec["max_attempts"], row.spec["lease"]) for row in rows}),
        )

    def step(self, name: str) -> None:
        """Take one step, then hold everything against the reference."""
        self.expected.clear()
        STEPS[name](self)
        self.check()

    # what agents do

    def claim(self) -> None:
        """One pass over one to three claims, some of them asked before."""
        asked: dict[str, Waiting] = {}
        names = [self.choice.of(list(WORKERS)) for _ in range(self.choice.of([1, 1, 1, 2, 3]))]
        for name in dict.fromkeys(names):
            old = [held for held in self.held if held.worker == IDS[name]]
            if old and self.choice.of(range(5)) == 0:
                again = self.choice.of(old)
                asked[again.claim] = _waiting(self.choice.of([IDS[name], IDS[name], IDS["ant"]]), again.claim)
            else:
                self.claims += 1
                claim = str(UUID(int=self.claims << 64))
                asked[claim] = _waiting(IDS[name], claim)
        for request in asked.values():
            self.stage.workers.hear(request.worker)
        writer, matching = self.stage.database.writer, self.stage.matching
        before = {work: (known.status, known.avoid) for work, known in self.reference.works.items()}
        answers = drive(writer.run(lambda tx: matching._match(tx, list(asked.values())))).answers
        fresh = self._new_events()
        for request in asked.values():
            self._answered(request, answers.get(request.claim_id), before)
        self.sometimes["two claims in one pass"] += len(fresh) > 1

    def _answered(
        self, request: Waiting, answer: ClaimAnswer | None, before: dict[str, tuple[str, str | None]]
    ) -> None:
        known = next(
            (attempt for attempt, held in self.reference.tries.items() if held.claim == request.claim_id),
            None,
        )
        if known is not None:
            held = self.reference.tries[known]
            holds = held.is_open and held.worker == request.worker
            assert (answer.attempt if answer else None) == (known if holds else None), "J15"
            self.sometimes["replayed claim" if holds else "void claim"] += 1
            return
        if answer is None:
            self.sometimes["nothing to claim"] += 1
            return
        work = answer.job.job_id
        assert answer.checkpoint == self.reference.works[work].checkpoint
        self.sometimes["claim that goes on"] += answer.checkpoint is not None
        avoided = before[work][1] == request.worker
        self.sometimes["the same worker again after a failure"] += avoided
        self.sometimes["another worker after a failure"] += bool(before[work][1]) and not avoided
        mine = [t for t in self.reference.tries.values() if t.is_open and t.worker == request.worker]
        most = next(
            offers.get("max_jobs", 1) for name, offers in WORKERS.items() if IDS[name] == request.worker
        )
        assert len(mine) < most, "no more than it takes"
        self.reference.claim(work, answer.attempt, request.worker, request.claim_id, now=self.now)
        assert answer.number == self.reference.works[work].attempts, "J5"
        self.expected.append((work, "claimed"))
        self.held.append(Held(work, answer.attempt, request.worker, request.claim_id))

    def report(self) -> None:
        """start, complete, fail or release: by its agent or by another's, in time or late, once or again."""
        if held := self._some_attempt():
            verb = self.choice.of(["start", "start", "complete", "complete", "fail", "fail", "release"])
            self._say(verb, held, self._word(verb))

    def _word(self, verb: str) -> object:
        if verb == "complete":
            return self.choice.of(DIGESTS)
        return self.choice.of(list(FailureKind)) if verb == "fail" else None

    def repeat(self) -> None:
        """What was acknowledged is sent again, as late as it may be: its answer was lost."""
        if self.acknowledged:
            verb, held, word = self.choice.of(self.acknowledged)
            refused = self._say(verb, held, word)
            self.sometimes[f"repeated {verb}: {refused or 'the first answer'}"] += 1
            assert not self.expected, "J7: a repeat changes nothing"

    def _say(self, verb: str, held: Held, word: object) -> str | None:
        """One call, and what the reference says of it; the code of a refusal, if it was refused."""
        about = {"worker": held.worker, "attempt": held.attempt}
        workers = self.stage.workers
        plain = (word,) if verb in {"complete", "fail"} else ()
        call: Coroutine[Any, Any, Any]
        if verb == "start":
            call = workers.start(held.job, StartRequest.model_validate(about))
        elif verb == "complete":
            call = workers.complete(held.job, CompleteRequest.model_validate({**about, "artifact": word}))
        elif verb == "fail":
            failure = {"kind": word, "reason": f"it broke: {word}", "exit_code": 1}
            call = workers.fail(held.job, FailRequest.model_validate({**about, **failure}))
        else:
            given_back = {**about, "reason": ReleaseReason.DRAINED}
            call = workers.release(held.job, ReleaseRequest.model_validate(given_back))
        cancelling = held.job in self.reference.works and self.reference.works[held.job].cancel
        refused = self._both(
            held.job,
            call,
            lambda: self.reference.say(verb, plain, held.job, held.attempt, held.worker, now=self.now),
        )
        self._note_report(verb, held, refused, cancelling)
        if refused is None:
            self.acknowledged.append((verb, held, word))
        return refused

    def _note_report(self, verb: str, held: Held, refused: str | None, cancelling: bool) -> None:
        if refused:
            self.sometimes[f"{verb} refused: {refused}"] += 1
        elif cancelling and self.expected:
            self.sometimes["cancel lost to complete" if verb == "complete" else "cancel won"] += (
                verb != "start"
            )

    def upload(self) -> None:
        """The bytes of an artifact, in time or late: evidence in any case."""
        held = self._some_attempt()
        if held is None or held.attempt not in self.reference.tries:
            return
        digest = self.choice.of(DIGESTS)
        mine = self.reference.tries[held.attempt]
        self.sometimes["late artifact kept"] += not mine.is_open

        def note(tx: Transaction) -> bool:
            rows = job_and_attempt(tx.connection, JobId(mine.job), held.attempt)
            return save_upload(tx, *rows, digest, 1, "place")

        first = drive(self.stage.database.writer.run(note))
        assert first is (digest not in mine.uploads)
        mine.uploads.add(digest)

    def checkpoint(self) -> None:
        """A checkpoint of any attempt, of bytes that may never have come."""
        held, sha256 = self._some_attempt(), self.choice.of(CHECKPOINTS)
        if held is None:
            return
        if self.choice.of([True, True, False]):
            drive(self.stage.database.writer.run(lambda tx: save_blob(tx, sha256, 1)))
            self.reference.blobs.add(sha256)
        mine = self.reference.tries.get(held.attempt)
        request = CheckpointRequest(worker=held.worker, sha256=sha256)
        refused = self._both(
            mine.job if mine else held.job,
            self.stage.workers.checkpoint(held.attempt, request),
            lambda: self.reference.checkpoint(sha256, held.attempt, held.worker),
        )
        self.sometimes[f"checkpoint refused: {refused}" if refused else "checkpoint"] += 1

    def finish(self) -> None:
        """The good end: start, upload, complete."""
        open_ones = [h for h in self.held if h.attempt in self.reference.tries and self._is_open(h)]
        if open_ones:
            held = self.choice.of(open_ones)
            self._say("start", held, None)
            self.check()
            self.expected.clear()
            digest = self.choice.of(DIGESTS)
            writer = self.stage.database.writer
            drive(
                writer.run(
                    lambda tx: save_upload(
                        tx, *job_and_attempt(tx.connection, held.job, held.attempt), digest, 1, "place"
                    )
                )
            )
            self.reference.tries[held.attempt].uploads.add(digest)
            self._say("complete", held, digest)

    def heartbeat(self) -> None:
        if held := self._some_attempt():
            verdict = self._beat(held)
            if held.attempt in self.ghosts:
                assert verdict == "unknown", "J17: a restored database ends no training"
            self.sometimes[f"heartbeat: {verdict}"] += 1

    def hello(self) -> None:
        """An agent comes back and names everything that it ever held."""
        name = self.choice.of(list(WORKERS))
        mine = [held for held in self.held if held.worker == IDS[name]]
        running = self.choice.of([True, False])
        answer = drive(self.stage.workers.hello(greeting(name, mine, running=running)))
        for held, told in zip(mine, answer.attempts, strict=True):
            before = (
                self.reference.tries[held.attempt].heard if held.attempt in self.reference.tries else None
            )
            assert told.verdict == self.reference.verdict(held.attempt, held.worker, self.now), "J17"
            if not running and before is not None:
                self.reference.tries[held.attempt].heard = before

    def log(self) -> None:
        """A piece of a log: in order, overlapping, ahead of what is there, or of another trainer."""
        if not self.held:
            return
        attempt = self.choice.of(self.held).attempt
        have = self.logs.get(attempt, b"")
        offset = max(0, len(have) + self.choice.of([0, 0, -1, -4, 3]))
        data = have[offset:] + b"more" if self.choice.of([True, True, False]) else b"other"
        overlap = len(have) - offset
        ought = "log_gap" if overlap < 0 else "" if have[offset:] == data[:overlap] else "log_diverged"
        refused = ""
        try:
            self.stage.appended(attempt, offset, data)
        except Refusal as error:
            refused = str(error.code)
        assert refused == ought
        self.logs[attempt] = have if refused else have + data[overlap:]
        assert (
            self.stage.logs.path(attempt).read_bytes() == self.logs[attempt] if self.logs[attempt] else True
        )
        self.sometimes[f"append: {refused or ('overlapping' if overlap else 'in order')}"] += 1

    # what the coordinator and time do

    def sweep(self) -> None:
        listening = self.reference.listening
        self.expected += self.reference.sweep(self.now)
        self.sometimes["listening anew after a pause"] += self.reference.listening > listening
        drive(self.stage.sweep.once())
        self.sometimes["lease lost"] += len(self.expected)
        assert self.stage.sweep.listening_since == self.reference.listening

    def moment(self) -> None:
        self.stage.clock.advance(self.choice.of([1, 5, 9, 10, 29]))

    def pause(self) -> None:
        """Longer than the coordinator may look away: what it did not hear then is nobody's fault."""
        self.stage.clock.advance(self.choice.of([HEARTBEAT + SWEEP + 1, 3 * LEASE]))

    def silence(self) -> None:
        """Nobody says a word for a while, save perhaps one; the coordinator looks all the time."""
        speaker = self._some_attempt() if self.choice.of([True, False]) else None
        first = self.choice.of([True, False])
        for _ in range(self.choice.of([2, 4])):
            self.stage.clock.advance(HEARTBEAT)
            if speaker is not None and first:
                self._beat(speaker)
            self.sweep()
            if speaker is not None and not first and self._beat(speaker) == "stop" and self.expected:
                self.sometimes["heartbeat just after the sweep took it"] += 1
            self.sometimes["heartbeat in time, swept later"] += speaker is not None and bool(self.expected)
            self.check()
            self.expected.clear()

    def _beat(self, held: Held) -> str:
        beat = HeartbeatRequest(worker=held.worker, attempt=held.attempt)
        answer = drive(self.stage.workers.heartbeat(held.job, beat))
        verdict = self.reference.verdict(held.attempt, held.worker, self.now)
        assert answer.verdict == verdict
        return verdict

    def flush(self) -> None:
        drive(self.stage.flush.once())

    def restart(self) -> None:
        self.stage.restart()
        self.reference.restart(self.now)

    def save(self) -> None:
        """A backup of the database, as it stands."""
        self.backup = (self.stage.backup(), copy.deepcopy(self.reference), self.seen, list(self.acknowledged))

    def restore(self) -> None:
        """The backup takes the place of the database; the agents know what it does not."""
        if self.backup is None:
            return
        saved, reference, self.seen, acknowledged = self.backup
        self.acknowledged = list(acknowledged)
        known = set(self.reference.tries) | self.ghosts
        self.reference = copy.deepcopy(reference)
        self.ghosts = known - set(self.reference.tries)
        self.stage.restore(saved)
        self.reference.restart(self.now)
        self.sometimes["an older database restored"] += 1

    def misfortune(self) -> None:
        """Workers take what there is and are never heard again, more often than a job may be lost."""
        for _ in range(4):
            for _ in range(2):
                self.claim()
                self.check()
                self.expected.clear()
            self.stage.clock.advance(START // 2 + 1)
            for _ in range(2):
                self.sweep()
                self.check()
                self.sometimes["lost as often as it may be"] += "failed" in dict(self.expected).values()
                self.expected.clear()
                self.stage.clock.advance(START // 2 + 1)

    # what operators do

    def cancel(self) -> None:
        work = self._some_job()
        self._both(work, self.stage.jobs.cancel(work, "operator", ""), lambda: self.reference.cancel(work))

    def regret(self) -> None:
        """A job is cancelled while it runs, and its agent has a last word that may be about something else."""
        open_ones = [held for held in self.held if self._is_open(held)]
        if open_ones:
            held = self.choice.of(open_ones)
            self._both(
                held.job,
                self.stage.jobs.cancel(held.job, "operator", ""),
                lambda: self.reference.cancel(held.job),
            )
            self.check()
            self.expected.clear()
            verb = self.choice.of(["start", "complete", "fail", "release"])
            self._say(verb, held, self._word(verb))

    def requeue(self) -> None:
        work, again = self._some_job(), self.choice.of([False, True])
        before = self.reference.works[work].status
        self._both(
            work,
            self.stage.jobs.requeue(work, "operator", RequeueRequest(again=again)),
            lambda: self.reference.requeue(work, again),
        )
        self.sometimes["trained again on purpose"] += bool(self.expected) and before == "completed"

    def accept(self) -> None:
        if held := self._some_attempt():
            self._both(
                held.job,
                self.stage.jobs.accept(held.job, "operator", AcceptRequest(attempt=held.attempt)),
                lambda: self.reference.accept(held.job, held.attempt, self._artifact(held.job)),
            )
            self.sometimes["late artifact accepted"] += bool(self.expected)

    def reload(self) -> None:
        """A manifest, changed or not: nothing of it touches where a job stands."""
        kind = self.choice.of(list(CHANGED))
        before, changed = self._written(), False
        try:
            asked = ReloadRequest(toml=CHANGED[kind], file="m")
            changed = drive(self.stage.manifests.reload(asked, "operator")).changed
        except Refusal as error:
            refused = str(error.code)
        else:
            refused = ""
        assert refused == ("invalid_manifest" if kind == "no manifest" else "")
        if refused:
            assert self._written() == before, "a refused manifest changes nothing"
            self.sometimes[f"reload: {kind}"] += 1
            return
        again = self._written()
        repeated = drive(self.stage.manifests.reload(ReloadRequest(toml=CHANGED[kind], file="m"), "operator"))
        assert not repeated.changed
        assert self._written() == again, "an unchanged reload writes nothing"
        fresh = self._new_events()
        assert bool(fresh) <= changed
        assert {kind for _, kind in fresh} <= {"rescheduled", "removed", "restored"}
        self.expected += fresh
        self.sometimes[f"reload: {kind}"] += 1

    def mistake(self) -> None:
        """Two operations share a transaction and one of them raises: the other must not pay for it."""
        work, ghost = self._some_job(), Held(JobId(self._some_job()), NOBODY, IDS["ant"], "")

        def good(tx: Transaction) -> int:
            return tx.last_event

        def bad(tx: Transaction) -> None:
            tx.next_event()
            tx.connection.execute(jobs.update().where(jobs.c.job_id == work).values(errors=77))
            job_and_attempt(tx.connection, ghost.job, ghost.attempt)

        answers = self.stage.database.writer.together([good, bad, good])
        assert answers[0].result() == answers[2].result() == self.seen
        assert isinstance(answers[1].exception(), Refusal)
        self.sometimes["one of a batch raised"] += 1

    # how it is held against the promises

    def check(self) -> None:
        """Rows, history and reference agree."""
        rows = {row[0]: row for row in self.stage.fetch(STANDING)}
        held = self.stage.fetch(OPEN_ATTEMPTS)
        ((last,),) = self.stage.fetch("SELECT max(event) FROM events")
        assert rows.keys() == self.reference.works.keys(), "J6: no job disappears"
        for work, known in self.reference.works.items():
            ought = (known.status, known.attempts, known.errors, known.lost, known.generation, known.holder)
            assert rows[work][2:8] == ought, (work, rows[work], ought)
            assert (bool(rows[work][8]), self.stage.time(rows[work][9])) == (known.cancel, known.not_before)
            assert rows[work][10] == known.checkpoint, (
                "it goes on from what its attempts left, and from nothing else"
            )
            assert known.errors <= known.max_attempts, "J10"
        ours = {(known.job, attempt) for attempt, known in self.reference.tries.items() if known.is_open}
        assert len(held) == len(ours), "J1"
        assert set(held) == ours, "J1"
        self._check_leases()
        if last == self.seen:
            assert not self.expected, self.expected
        else:
            self._check_history({work: row[1] for work, row in rows.items()})

    def _check_leases(self) -> None:
        """What is answered from memory is what the database would say, about every attempt and to everybody."""
        remembered = self.stage.roster.leases.held
        with self.stage.connection.begin():
            found = open_attempts(self.stage.connection)
        ought = {
            held.attempt: Lease(job.job_id, held.worker_id, job.spec["lease"])
            for job, held in found
            if verdict(job, held, held.worker_id)[0] is Verdict.CONTINUE
        }
        assert remembered == ought

    def _check_history(self, versions: dict[str, int]) -> None:
        """The new events are those that were to come, numbered without a gap, and the last is the row."""
        fresh = self._rows_after(self.seen)
        happened = [(row.job_id, row.kind) for row in fresh if row.job_id]
        assert sorted(happened) == sorted(self.expected), (happened, self.expected)
        assert [row.event for row in fresh] == list(range(self.seen + 1, self.seen + 1 + len(fresh)))
        last = {row.job_id: row for row in fresh if row.job_id}
        with self.stage.connection.begin():
            for work, event in last.items():
                assert versions[work] == event.event, "J8"
                found = job_row(self.stage.connection, JobId(work))
                assert found.view().model_dump(mode="json") == event.row, "J8"
        for event in fresh:
            self.sometimes[f"event: {event.kind}"] += 1
        self.seen += len(fresh)

    def settle(self) -> None:
        """J16: the faults stop, and within bounded time every job is over."""
        for _ in range(14):
            for name in WORKERS:
                drive(self.stage.workers.hello(greeting(name, [])))
            self.expected.clear()
            self.sweep()
            self.check()
            if all(
                work.status in {"completed", "failed", "cancelled"} for work in self.reference.works.values()
            ):
                return
            for _ in WORKERS:
                self.step("claim")
                self.step("finish")
                self.step("finish")
            for held in self.held:
                if self._is_open(held) and self.reference.works[held.job].cancel:
                    self.expected.clear()
                    self._say("release", held, None)
                    self.check()
            self.stage.clock.advance(HEARTBEAT)
        raise AssertionError("J16: a job is stuck")

    def _both(self, work: str, call: Coroutine[Any, Any, Any], ought: Callable[[], str | None]) -> str | None:
        """Make a call, ask the reference what it ought to have done; the code of the refusal, if both refuse."""
        refused = truth = ""
        try:
            drive(call)
        except Refusal as error:
            refused = str(error.code)
        try:
            kind = ought()
        except Refused as error:
            truth, kind = str(error), None
        assert refused == truth
        if kind is not None:
            self.expected.append((work, kind))
        return refused or None

    def _some_attempt(self) -> Held | None:
        """Most often one that is open; else any, a forged one, or another worker's."""
        if not self.held:
            return None
        held = self.choice.of(self.held)
        way = self.choice.of(["open", "open", "open", "open", "any", "any", "forged", "another's", "moved"])
        if way == "open":
            return self.choice.of([h for h in self.held if self._is_open(h)] or [held])
        if way == "forged":
            return Held(held.job, NOBODY, held.worker, "")
        if way == "another's":
            return Held(held.job, held.attempt, self.choice.of(list(IDS.values())), "")
        if way == "moved":
            return Held(JobId(self._some_job()), held.attempt, held.worker, "")
        return held

    def _is_open(self, held: Held) -> bool:
        known = self.reference.tries.get(held.attempt)
        return known is not None and known.is_open and known.job == held.job and known.worker == held.worker

    def _some_job(self) -> str:
        return self.choice.of(sorted(self.reference.works))

    def _artifact(self, work: str) -> str | None:
        with self.stage.connection.begin():
            return self.stage.connection.scalar(select(jobs.c.artifact).where(jobs.c.job_id == work))

    def _rows_after(self, event: int) -> Sequence[Any]:
        with self.stage.connection.begin():
            return self.stage.connection.execute(EVENTS_AFTER, {"after": event}).all()

    def _new_events(self) -> list[tuple[str, str]]:
        return [(row.job_id, row.kind) for row in self._rows_after(self.seen)]

    def _written(self) -> object:
        """Differs whenever anything was written, an equal row over an equal row included."""
        if self.stage.engine.dialect.name == "sqlite":
            return self.stage.changes
        return self.stage.fetch(
            "SELECT string_agg(concat(xmin, ctid), ',' ORDER BY job_id), (SELECT count(*) FROM events), "
            "(SELECT count(*) FROM manifests) FROM jobs"
        )


def greeting(name: str, held: Sequence[Held], *, running: bool = True) -> HelloRequest:
    return HelloRequest(
        worker=IDS[name],
        name=name,
        protocol=1,
        version="0.1.0",
        incarnation=str(UUID(int=7)),
        boot_id="boot",
        capability=Capability.model_validate({**CAPABILITY, **WORKERS[name]}),
        attempts=tuple(LocalAttempt(attempt=h.attempt, job_id=h.job, running=running) for h in held),
    )


def _waiting(worker: WorkerId, claim: str) -> Waiting:
    return Waiting(worker, claim, 0.0, None)  # type: ignore[arg-type]  # only the loop, which is not run, answers it


STEPS: dict[str, Callable[[History], None]] = {
    "claim": History.claim,
    "report": History.report,
    "repeat": History.repeat,
    "upload": History.upload,
    "checkpoint": History.checkpoint,
    "finish": History.finish,
    "heartbeat": History.heartbeat,
    "hello": History.hello,
    "log": History.log,
    "sweep": History.sweep,
    "moment": History.moment,
    "pause": History.pause,
    "silence": History.silence,
    "flush": History.flush,
    "restart": History.restart,
    "save": History.save,
    "restore": History.restore,
    "misfortune": History.misfortune,
    "cancel": History.cancel,
    "regret": History.regret,
    "requeue": History.requeue,
    "accept": History.accept,
    "reload": History.reload,
    "mistake": History.mistake,
}
WEIGHTS = {
    "claim": 8,
    "report": 8,
    "upload": 4,
    "heartbeat": 3,
    "repeat": 3,
    "sweep": 3,
    "moment": 2,
    "silence": 2,
    "log": 2,
}
OFTEN = [name for name in STEPS for _ in range(WEIGHTS.get(name, 1))]

VERBS = ["start", "complete", "fail", "release"]
KINDS = """accepted cancel_requested cancelled checkpointed claimed completed failed lost released removed requeued
rescheduled restored retried started worker_back worker_hello worker_lost"""
SOMETIMES = frozenset(
    [
        *(f"event: {kind}" for kind in KINDS.split()),
        *(f"{verb} refused: stale_attempt" for verb in VERBS),
        *(f"{verb} refused: unknown_attempt" for verb in VERBS),
        *(f"repeated {verb}: the first answer" for verb in VERBS),
        *(f"heartbeat: {verdict}" for verdict in ["continue", "stop", "unknown"]),
        *(f"append: {how}" for how in ["in order", "overlapping", "log_gap", "log_diverged"]),
        *(f"reload: {kind}" for kind in CHANGED),
        "an older database restored",
        "another worker after a failure",
        "cancel lost to complete",
        "cancel won",
        "checkpoint refused: blob_missing",
        "checkpoint refused: stale_attempt",
        "claim that goes on",
        "complete refused: artifact_missing",
        "heartbeat in time, swept later",
        "heartbeat just after the sweep took it",
        "lost as often as it may be",
        "late artifact accepted",
        "late artifact kept",
        "lease lost",
        "listening anew after a pause",
        "nothing to claim",
        "one of a batch raised",
        "repeated start: stale_attempt",
        "replayed claim",
        "the same worker again after a failure",
        "trained again on purpose",
        "two claims in one pass",
        "void claim",
    ]
)
"""Cases that are rare and must not be missed: a long run that never meets one of them proves less than it says."""
