"""Whether a fleet kept its promises: the coordinator's rows and files against what really happened."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from itertools import pairwise
from typing import Any

from backports.zstd import ZstdFile
from sqlalchemy import RowMapping, Table, create_engine, select

from fleet_protocol.states import AttemptStatus, JobStatus
from fleet_server.jobs.model import Attempt, Job, attempt_from, job_from
from fleet_server.tables import attempts, events, jobs, uploads
from tests.history import passed_over
from tests.simulation.coordinator import START, Site
from tests.simulation.loop import EPOCH
from tests.simulation.network import Seen
from tests.simulation.trainers import Deed

ACTIVE = ("claimed", "running")
Happening = Mapping[str, Any] | RowMapping
"""An event: its `kind`, and the job's `row` after it."""
STEPS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "queued": ((), ("pending",)),
    "claimed": (("pending",), ("claimed",)),
    "started": (("claimed",), ("running",)),
    "completed": (ACTIVE, ("completed",)),
    "retried": (ACTIVE, ("pending",)),
    "lost": (ACTIVE, ("pending",)),
    "released": (ACTIVE, ("pending",)),
    "failed": (ACTIVE, ("failed",)),
    "cancelled": (("pending", *ACTIVE), ("cancelled",)),
    "requeued": (("failed", "cancelled", "completed"), ("pending",)),
    "accepted": (("pending", "failed", "cancelled"), ("completed",)),
}
"""Written down once more, independently: from which status each event leads to which. Others change none."""
SLACK = timedelta(seconds=10)
"""Between the moment the coordinator heard something and the moment it was noted here."""


@dataclass(frozen=True)
class Evidence:
    """Everything that a verdict rests on, after the coordinator has ended."""

    site: Site
    deeds: Sequence[Deed]
    seen: Seen
    agents_ended: Mapping[str, Sequence[float]]
    """By machine, when its agent ended."""

    @cached_property
    def _rows(self) -> dict[str, list[RowMapping]]:
        engine = create_engine(self.site.settings.url)
        tables: tuple[Table, ...] = (jobs, attempts, events, uploads)
        try:
            with engine.connect() as connection:
                return {t.name: list(connection.execute(select(t)).mappings().all()) for t in tables}
        finally:
            engine.dispose()

    @cached_property
    def jobs(self) -> list[Job]:
        return [job_from(row) for row in self._rows["jobs"]]

    @cached_property
    def attempts(self) -> dict[str, Attempt]:
        return {row["attempt"]: attempt_from(row) for row in self._rows["attempts"]}

    @cached_property
    def histories(self) -> dict[str, list[RowMapping]]:
        """Events by job, in order."""
        found: dict[str, list[RowMapping]] = defaultdict(list)
        for row in sorted(self._rows["events"], key=lambda row: row["event"]):
            if row["job_id"]:
                found[row["job_id"]].append(row)
        return found

    @cached_property
    def moments(self) -> list[tuple[int, datetime]]:
        """Id and time of each event, in order."""
        return sorted((row["event"], row["at"]) for row in self._rows["events"])

    @cached_property
    def uploads(self) -> list[RowMapping]:
        return self._rows["uploads"]

    def deed(self, attempt: str | None) -> Deed | None:
        return next((deed for deed in self.deeds if deed.attempt == attempt), None)

    def at(self, moment: datetime) -> float:
        """A row's time on the loop's clock, the coordinator's pauses included."""
        return (moment - START).total_seconds() + EPOCH


def verdict(evidence: Evidence) -> list[str]:
    """What is wrong; empty when every promise was kept."""
    found = [*_events(evidence), *_deeds(evidence), *_files(evidence)]
    for job in evidence.jobs:
        history = evidence.histories[job.job_id]
        checks = [
            _ended(job, evidence),
            steps(history),
            _row(job, history),
            _counters(job, history, evidence),
            _artifact(job, history, evidence),
            after_cancel(history),
            _leases(history, evidence),
            _overlaps(job, evidence),
        ]
        found += [f"{job.name} ({job.job_id}): {complaint}" for check in checks for complaint in check]
        _tally(history, evidence)
    return found


def _events(evidence: Evidence) -> Iterator[str]:
    if wrong := [*passed_over(evidence.moments)]:
        yield f"events are missing before {wrong[:20]}"


def _ended(job: Job, evidence: Evidence) -> Iterator[str]:
    if not job.status.is_terminal:
        yield f"is {job.status} at the end: {job.reason}"
    for attempt in evidence.attempts.values():
        if attempt.job_id == job.job_id and attempt.status.is_open:
            yield f"attempt {attempt.attempt} is open at the end"


def steps(history: Sequence[Happening]) -> Iterator[str]:
    """Each event leads where such an event may lead, and only the current attempt changes anything."""
    status, attempt, seen = "", None, set[str]()
    wins = 0
    for event in history:
        before, after = STEPS.get(event["kind"], ((status,), (status,)))
        row = event["row"]
        if (before and status not in before) or row["status"] not in after:
            yield f"{event['kind']} led from {status!r} to {row['status']!r}"
        if event["kind"] == "claimed":
            if row["attempt"] in seen:
                yield f"attempt {row['attempt']} was handed out twice"
            seen.add(row["attempt"])
        elif event["kind"] != "accepted" and row["attempt"] != attempt:
            yield f"{event['kind']} changed the current attempt"
        wins = 0 if event["kind"] == "requeued" else wins + (row["status"] == "completed" != status)
        if wins > 1:
            yield "was completed twice"
        status, attempt = row["status"], row["attempt"]


def _row(job: Job, history: Sequence[RowMapping]) -> Iterator[str]:
    """The row is what the last event says."""
    last = history[-1]
    row = job.view().model_dump(mode="json")
    different = {key: (row[key], last["row"].get(key)) for key in row if row[key] != last["row"].get(key)}
    if different or job.version != last["event"]:
        yield f"row and last event differ: {different}"


def _counters(job: Job, history: Sequence[RowMapping], evidence: Evidence) -> Iterator[str]:
    kinds = [event["kind"] for event in history]
    if job.attempts != kinds.count("claimed"):
        yield f"counts {job.attempts} attempts, there were {kinds.count('claimed')}"
    since = history[max((n for n, kind in enumerate(kinds) if kind == "requeued"), default=0)]["event"]
    mine = {
        event["row"]["attempt"] for event in history if event["kind"] == "claimed" and event["event"] > since
    }
    ended = Counter(evidence.attempts[attempt].status for attempt in mine)
    if "accepted" in kinds:  # it turns an attempt's own status into completed
        return
    if (job.errors, job.lost) != (ended[AttemptStatus.FAILED], ended[AttemptStatus.LOST]):
        yield f"counts {job.errors} errors and {job.lost} losses, there were {dict(ended)}"


def _artifact(job: Job, history: Sequence[RowMapping], evidence: Evidence) -> Iterator[str]:
    """What a completed job shows is there, is what its name says, and came from a training that ended well."""
    for event in history:
        row = event["row"]
        if event["kind"] not in ("completed", "accepted"):
            continue
        deed = evidence.deed(row["attempt"])
        if deed is None or deed.status != 0:
            yield f"completed by attempt {row['attempt']}, whose trainer ended with {deed and deed.status}"
            continue
        place = f"models/{job.model}_{job.mode}/{row['artifact']}/bundle.tar.zst"
        try:
            bundle = (evidence.site.settings.data / place).read_bytes()
        except FileNotFoundError:
            yield f"the artifact {place} is missing"
            continue
        if hashlib.sha256(bundle).hexdigest() != row["artifact"]:
            yield f"the artifact {place} has other bytes"
        elif deed.attempt not in packed_text(bundle):
            yield f"the artifact {place} was not trained by attempt {deed.attempt}"
    if job.status is JobStatus.COMPLETED and job.artifact is None:
        yield "completed without an artifact"


def packed_text(bundle: bytes) -> str:
    """What stands in an artifact's `weights.txt`; empty when there is none."""
    with ZstdFile(io.BytesIO(bundle)) as packed, tarfile.open(fileobj=packed, mode="r|") as archive:
        for entry in archive:
            if entry.name == "weights.txt" and (file := archive.extractfile(entry)):
                return file.read().decode()
    return ""


def after_cancel(history: Sequence[Happening]) -> Iterator[str]:
    """After a cancel was granted no attempt begins, and the job ends cancelled or completed."""
    is_asked = False
    for event in history:
        if is_asked and event["kind"] in ("claimed", "retried", "lost", "released", "failed"):
            yield f"{event['kind']} after it was cancelled"
        is_asked = event["kind"] in ("cancel_requested", "cancelled") or (
            is_asked and event["kind"] not in ("requeued", "accepted", "completed")
        )


def _leases(history: Sequence[RowMapping], evidence: Evidence) -> Iterator[str]:
    """Nobody lost a lease who was heard, or while nobody was listening."""
    settings = evidence.site.settings
    for event in history:
        if event["kind"] not in ("lost", "failed", "cancelled") or event["actor"] != "coordinator":
            continue
        attempt = evidence.attempts[event["row"]["attempt"]]
        at = evidence.at(event["at"])
        beats = [beat for beat in evidence.seen.beats.get(attempt.attempt, ()) if beat < at]
        listening = max(start for start in evidence.site.listening if start < at)
        heard = max([*beats, evidence.at(attempt.created_at), listening])
        least = min(300.0, settings.stale_after) if beats else settings.start_deadline
        if at - heard < least - SLACK.total_seconds():
            yield f"attempt {attempt.attempt} lost its lease {at - heard:.0f} s after it was heard"


def _overlaps(job: Job, evidence: Evidence) -> Iterator[str]:
    """An exclusive job is trained once at a time, while the agent lives that has to see to it."""
    mine = sorted((deed for deed in evidence.deeds if deed.job_id == job.job_id), key=lambda deed: deed.began)
    for earlier, later in pairwise(mine):
        if earlier.ended is not None and earlier.ended <= later.began:
            continue
        evidence.seen.sometimes["trained twice at once"] += 1
        ended = evidence.agents_ended[earlier.machine]
        if job.specification.exclusive and not any(earlier.began <= at <= later.began for at in ended):
            yield f"is exclusive, and attempt {later.attempt} began while {earlier.attempt} was training"


def _deeds(evidence: Evidence) -> Iterator[str]:
    for deed in evidence.deeds:
        if deed.ended is None:
            yield f"the trainer of attempt {deed.attempt} still runs"
        if deed.attempt not in evidence.attempts:
            yield f"attempt {deed.attempt} was trained and is not known"
        path = evidence.site.settings.data / "logs" / deed.attempt[:2] / f"{deed.attempt}.log"
        packed = path.with_suffix(".log.zst")
        stored = path.read_bytes() if path.exists() else b""
        if packed.exists():
            evidence.seen.sometimes["log closed"] += 1
            with ZstdFile(packed) as file:
                stored = file.read()
        if stored != bytes(deed.printed):
            yield f"the log of attempt {deed.attempt} has {len(stored)} bytes, {len(deed.printed)} were printed"


def _files(evidence: Evidence) -> Iterator[str]:
    """One line per upload in the index, and no stray parts of attempts that completed."""
    index = evidence.site.settings.data / "models" / "index.jsonl"
    lines = [json.loads(line) for line in index.read_text().splitlines()] if index.exists() else []
    noted = Counter((line["attempt"], line["sha256"]) for line in lines)
    rows = Counter((row["attempt"], row["sha256"]) for row in evidence.uploads)
    if twice := [key for key, count in noted.items() if count > 1]:
        yield f"uploads stand twice in the index: {twice}"
    if unknown := noted - rows:
        yield f"the index has uploads that the database has not: {dict(unknown)}"


def _tally(history: Sequence[RowMapping], evidence: Evidence) -> None:
    """Count what a run is to reach sometimes."""
    sometimes = evidence.seen.sometimes
    asked = False
    for event in history:
        kind, detail = event["kind"], event["detail"] or ""
        sometimes[f"event {kind}"] += 1
        if kind == "lost":
            word = (
                "no heartbeat"
                if "no heartbeat" in detail
                else "no start"
                if "no start" in detail
                else "trainer gone"
            )
            sometimes[f"lost: {word}"] += 1
        if kind == "released" and "asked to go away" in detail:
            sometimes["drain released"] += 1
        if asked and kind in ("cancelled", "completed"):
            sometimes[f"cancel of a running job: {kind}"] += 1
        asked = kind == "cancel_requested" or (asked and kind == "started")
