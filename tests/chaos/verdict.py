"""Whether the fleet kept its promises: what the coordinator tells at the end, against what really happened."""

from __future__ import annotations

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx

from tests.chaos.fleet import Fleet
from tests.chaos.people import TERMINAL
from tests.chaos.trainer import BLOCK
from tests.chaos.viewers import first_mistake, holes
from tests.history import passed_over
from tests.simulation.verdict import after_cancel, packed_text, steps

PAGE = 1000
Row = dict[str, Any]


@dataclass
class Evidence:
    """Everything that the coordinator tells, once all is quiet."""

    jobs: dict[str, Row]
    histories: dict[str, list[Row]] = field(default_factory=lambda: defaultdict(list))
    """Events by job, in order, each with the row after it."""
    events: list[Row] = field(default_factory=list)
    logs: int = 0
    log_bytes: int = 0
    points: int = 0
    log_states: dict[str, str | None] = field(default_factory=dict)
    log_lengths: dict[str, int] = field(default_factory=dict)


async def unsettled(http: httpx.AsyncClient) -> list[str]:
    """What is still under way."""
    rows = (await http.get("/v1/jobs", params={"limit": PAGE})).raise_for_status().json()["jobs"]
    return [
        f"{row['name']} is {row['status']}: {row['reason']}" for row in rows if row["status"] not in TERMINAL
    ]


async def gather(fleet: Fleet) -> Evidence:
    async with fleet.client() as http:
        rows = (await http.get("/v1/jobs", params={"limit": PAGE})).raise_for_status().json()["jobs"]
        evidence = Evidence({row["job_id"]: row for row in rows})
        after = 0
        while page := (await _json(http, "/v1/events", after=after, limit=PAGE))["events"]:
            evidence.events += page
            after = page[-1]["event"]
    for event in evidence.events:
        if event["job"]:
            evidence.histories[event["job"]["job_id"]].append({**event, "row": event["job"]})
    return evidence


async def verdict(fleet: Fleet, evidence: Evidence, expected: int) -> list[str]:
    """What is wrong; empty when every promise was kept."""
    found = [*_whole(evidence, expected)]
    for job, history in evidence.histories.items():
        name = evidence.jobs[job]["name"] if job in evidence.jobs else "nobody's"
        checks = [steps(history), after_cancel(history), _row(evidence.jobs.get(job), history)]
        found += [f"{name} ({job}): {complaint}" for check in checks for complaint in check]
    async with fleet.client() as http:
        for job in evidence.jobs:
            detail = await _json(http, f"/v1/job/{job}")
            async for complaint in _attempts(http, fleet, evidence, detail):
                found.append(f"{detail['name']} ({job}): {complaint}")
    found += [f"attempt {file.stem}: {file.read_text()}" for file in fleet.control.glob("*.wrong")]
    return [*found, *_acknowledged(fleet, evidence)]


async def _json(http: httpx.AsyncClient, path: str, **query: int) -> Row:
    found: Row = (await http.get(path, params=query)).raise_for_status().json()
    return found


def _whole(evidence: Evidence, expected: int) -> Iterator[str]:
    if len(evidence.jobs) != expected:
        yield f"of {expected} jobs that were taken {len(evidence.jobs)} are there"
    told = [(event["event"], datetime.fromisoformat(event["at"])) for event in evidence.events]
    if wrong := [*passed_over(told)]:
        yield f"events are missing before {wrong[:20]}"


def _row(job: Row | None, history: Sequence[Row]) -> Iterator[str]:
    if job != history[-1]["row"]:
        yield f"the row {job} is not what its last event says: {history[-1]['row']}"


async def _attempts(
    http: httpx.AsyncClient, fleet: Fleet, evidence: Evidence, job: Row
) -> AsyncIterator[str]:
    for attempt in job["history"]:
        if attempt["status"] in ("claimed", "running"):
            yield f"attempt {attempt['attempt']} is {attempt['status']} at the end"
        async for wrong in _log(http, fleet, evidence, attempt):
            yield f"attempt {attempt['attempt']}: {wrong}"
        for wrong in await _curves(http, evidence, job["job_id"], attempt["attempt"]):
            yield f"attempt {attempt['attempt']}: {wrong}"
    won = {event["row"]["artifact"]: event["row"]["attempt"] for event in evidence.histories[job["job_id"]]}
    for artifact, attempt in won.items():
        if artifact and (complaint := await _artifact(http, fleet, artifact)):
            yield f"artifact {artifact} of attempt {attempt}: {complaint}"
    if job["status"] == "completed" and not job["artifact"]:
        yield "completed without an artifact"


async def _log(http: httpx.AsyncClient, fleet: Fleet, evidence: Evidence, attempt: Row) -> AsyncIterator[str]:
    """The log is what the trainer printed, from the first byte on; all of it, when it is called complete."""
    name, at, lost = attempt["attempt"], 0, 0
    while True:
        answer = await http.get(f"/v1/attempt/{name}/log", params={"offset": at})
        answer.raise_for_status()
        if not answer.content:
            break
        gaps = holes(answer.headers)
        lost += sum(end - start for start, end in gaps)
        if (wrong := first_mistake(name, at, answer.content, gaps)) is not None:
            yield f"its log holds at {wrong} what was never printed there"
            return
        at += len(answer.content)
    evidence.logs += 1
    evidence.log_bytes += at
    evidence.log_states[name] = attempt.get("log_state")
    evidence.log_lengths[name] = at
    printed = _printed(fleet, name)
    if attempt.get("log_state") == "complete" and at < printed:
        yield f"its log is called complete with {at} bytes, {printed} were printed"
    if attempt["status"] == "completed" and attempt.get("log_state") != "partial" and at % BLOCK == 0 and at:
        yield f"it completed, and the log's last words are missing after {at} bytes"


async def _curves(http: httpx.AsyncClient, evidence: Evidence, job: str, attempt: str) -> list[str]:
    """Every point is as the trainer told it, and none came twice."""
    answer = await http.get(f"/v1/job/{job}/metrics", params={"attempt": attempt})
    if not answer.is_success:
        return [] if answer.status_code == 404 else [f"its curves cannot be had: {answer.text}"]
    points = answer.json()["series"].get("loss", [])
    evidence.points += len(points)
    steps = [step for step, _, _ in points]
    wrong = [step for step, value, _ in points if value != 1 / (step + 1)]
    complaints = [f"its curve has at {wrong} what was never told"] if wrong else []
    return complaints + (
        ["its curve's points are not one after the other"] if steps != sorted(set(steps)) else []
    )


def _printed(fleet: Fleet, attempt: str) -> int:
    try:
        return int((fleet.control / f"{attempt}.printed").read_text() or 0)
    except (OSError, ValueError):
        return 0


async def _artifact(http: httpx.AsyncClient, fleet: Fleet, artifact: str) -> str | None:
    """It is what its name says, and comes from a trainer that ended well."""
    answer = await http.get(f"/v1/model/{artifact}")
    if not answer.is_success:
        return f"cannot be had: {answer.text}"
    if hashlib.sha256(answer.content).hexdigest() != artifact:
        return "has other bytes"
    maker = (await asyncio.to_thread(packed_text, answer.content)).strip()
    ended = fleet.control / f"{maker}.ended"
    if not ended.exists() or ended.read_text() != "0\n":
        return f"was made by {maker}, which did not end well"
    return None


def _acknowledged(fleet: Fleet, evidence: Evidence) -> Iterator[str]:
    """No byte is lost that the coordinator once called durable; attempts that a restore forgot keep their files."""
    for machine in fleet.machines:
        for attempt, durable in machine.link.acknowledged.items():
            path = fleet.data / "logs" / attempt[:2] / f"{attempt}.log"
            length = evidence.log_lengths.get(attempt)
            if length is None:
                length = path.stat().st_size if path.exists() else None
            if length is None and path.with_suffix(".log.zst").exists():
                continue
            if (length or 0) < durable:
                yield f"of the log of {attempt} {durable} bytes were acknowledged, {length} are left"
