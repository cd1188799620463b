"""One run: open the fleet, let faults come and people work, let it settle, and judge."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.chaos import sometimes, verdict
from tests.chaos.faults import inflict, possible
from tests.chaos.fleet import Fleet
from tests.chaos.people import attack, operate
from tests.chaos.schedule import Fault, schedule
from tests.chaos.viewers import EventViewer, History, LogViewer
from tests.e2e.house import TRACEBACK
from tests.e2e.programs import left_behind

MACHINES = 4
LOG_VIEWERS = 4
EVENT_VIEWERS = 3
SETTLED_SECONDS = 180


@dataclass
class Report:
    schedule: list[Fault]
    has_small_disks: bool
    broken: list[str] = field(default_factory=list)
    figures: Counter[str] = field(default_factory=Counter)
    sometimes: Counter[str] = field(default_factory=Counter)


async def run(folder: Path, seed: int, minutes: float, machines: int, database: str | None) -> Report:
    fleet = Fleet(folder, machines, minutes, database)
    faults = schedule(seed, minutes, machines, possible(fleet))
    report = Report(faults, fleet.logs_disk.works)
    if not report.has_small_disks:
        print("this account may not mount: no disk gets full in this run", flush=True)
    jobs = 30 + int(5 * minutes)
    try:
        await fleet.open(jobs)
        await _live(fleet, seed, faults, jobs, report)
        report.broken += await fleet.end()
    finally:
        for post in fleet.posts() if hasattr(fleet, "server") else []:
            post.signal(signal.SIGKILL)
        report.broken += [f"left behind: {what}" for what in left_behind(folder)]
        report.broken += _confused(folder)
        for disk in (fleet.logs_disk, fleet.state_disk):
            disk.close(keep=bool(report.broken))
    report.broken += fleet.broken
    report.sometimes += sometimes.from_journals(folder) + fleet.sometimes
    return report


async def _live(fleet: Fleet, seed: int, faults: list[Fault], jobs: int, report: Report) -> None:
    luck, history = random.Random(seed), History()
    logs = [LogViewer(fleet, random.Random(luck.random()), stalls=not n) for n in range(LOG_VIEWERS)]
    events = [EventViewer(fleet, random.Random(luck.random()), history) for _ in range(EVENT_VIEWERS)]
    async with asyncio.TaskGroup() as group:
        keeping = [group.create_task(post.keep()) for post in fleet.posts()]
        viewing = [group.create_task(viewer.run()) for viewer in logs]
        viewing += [group.create_task(viewer.run()) for viewer in events]
        people = [
            group.create_task(person(fleet, random.Random(luck.random()))) for person in (operate, attack)
        ]
        await _troubled(fleet, faults)
        for person in people:
            person.cancel()
        await fleet.settle()
        report.figures["seconds to settle"] = round(await _settled(fleet, report))
        for task in (*keeping, *viewing):
            task.cancel()
    for viewer in events:
        await viewer.catch_up()
    evidence = await verdict.gather(fleet)
    report.broken += await verdict.verdict(fleet, evidence, jobs)
    report.broken += history.complaints(fleet.generation, evidence.events)
    report.broken += [
        f"a viewer has other rows: {wrong}" for viewer in events if (wrong := viewer.others(evidence.jobs))
    ]
    for told in evidence.histories.values():
        report.sometimes += sometimes.from_history(told)
    report.sometimes["checkpoint taken up"] += len(list(fleet.control.glob("*.resumed")))
    report.sometimes["restored database"] += fleet.generation
    _count(report, fleet, evidence, logs, history)


async def _troubled(fleet: Fleet, faults: list[Fault]) -> None:
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for fault in faults:
            await asyncio.sleep(began + fault.at - time.monotonic())
            group.create_task(inflict(fleet, fault))


async def _settled(fleet: Fleet, report: Report) -> float:
    """Seconds until every job is over and all of it handed in; a complaint where that takes too long."""
    began = time.monotonic()
    left = ["nobody could be asked"]
    async with fleet.client() as http:
        for machine in fleet.machines:  # the operator may have gone in the middle of a drain
            with contextlib.suppress(httpx.HTTPError):
                await http.post(f"/v1/worker/{machine.name}/resume", json={})
        while time.monotonic() - began < SETTLED_SECONDS and left:
            await asyncio.sleep(0.5)
            try:
                left = await verdict.unsettled(http)
            except httpx.HTTPError as error:
                left = [f"the coordinator does not answer: {error}"]
            left = left or await asyncio.to_thread(fleet.unfinished)
    report.broken += [f"{SETTLED_SECONDS} s after the last fault {what}" for what in left]
    return time.monotonic() - began


def _confused(folder: Path) -> list[str]:
    """Programs that printed a traceback."""
    complaints = []
    for file in sorted(folder.glob("*.out")):
        _, found, text = file.read_text("utf-8", "replace").partition(TRACEBACK)
        if found:
            complaints.append(
                f"{file.name} has a traceback that ends: {text.partition(chr(10))[0][-600:] or text[:1500]}"
            )
    return complaints


def _count(
    report: Report, fleet: Fleet, evidence: verdict.Evidence, logs: list[LogViewer], history: History
) -> None:
    acknowledged = sum(sum(machine.link.acknowledged.values()) for machine in fleet.machines)
    ends = sum((post.ends for post in fleet.posts()), Counter[int]())
    report.figures += Counter(
        {
            "faults": len(report.schedule),
            "jobs": len(evidence.jobs),
            "events": len(evidence.events),
            "attempts": evidence.logs,
            "trainers": len(list(fleet.control.glob("*.printed"))),
            "bytes of logs": evidence.log_bytes,
            "points of curves": evidence.points,
            "bytes of logs acknowledged over websockets": acknowledged,
            "bytes that viewers of logs checked": sum(viewer.bytes for viewer in logs),
            "events that viewers checked": len(history.seen),
            **{f"programs that ended by themselves with {code}": count for code, count in ends.items()},
            **{
                f"jobs {status}": n
                for status, n in Counter(j["status"] for j in evidence.jobs.values()).items()
            },
            **{f"logs {state}": n for state, n in Counter(evidence.log_states.values()).items()},
        }
    )
