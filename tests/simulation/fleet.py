"""One seeded fleet from its first hello to its last report, and everything that happens to it on the way."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import structlog

from fleet_protocol.capability import Capability, Gpu
from fleet_server.settings import Settings
from tests.server.coordinator import manifest
from tests.simulation.coordinator import Site
from tests.simulation.disk import Disk
from tests.simulation.loop import EPOCH, VirtualLoop, run
from tests.simulation.machine import Machine
from tests.simulation.network import Faults, Seen, Wire
from tests.simulation.trainers import Courses, Trainers
from tests.simulation.verdict import Evidence, verdict

HOUR = 3600.0
HOURS = 0.7
PATIENCE = 12 * HOUR
"""Virtual time after the last fault within which every job is to end."""
LOOK = 30.0


@dataclass(frozen=True, slots=True)
class Report:
    """What came of one seed."""

    seed: int
    broken: list[str]
    sometimes: Counter[str]
    virtual_hours: float
    seconds: float
    trace: str
    """The same for the same seed, or the simulation depends on something else."""


def simulate(seed: int, folder: Path, database: Path, hours: float = HOURS) -> Report:
    """Run the fleet of `seed` in `folder`; `database` is an empty one to begin with."""
    began = time.perf_counter()
    data = folder / "data"
    data.mkdir(parents=True, mode=0o700)
    shutil.copy(database, data / "fleet.sqlite3")
    seen = Seen()
    ids = random.Random(f"{seed} ids")
    disk = Disk(random.Random(f"{seed} disk"), seen)
    with (
        _quiet(seen),
        patch("os.urandom", ids.randbytes),  # ids come from the seed too
        patch("os.fsync", disk.sync),
        patch("os.fdatasync", disk.sync),
    ):
        state = random.getstate()
        random.seed(seed)
        try:
            virtual, broken = run(lambda loop: Fleet(seed, folder, loop, seen, disk, hours).live(), seed)
        finally:
            random.setstate(state)
    trace = hashlib.sha256("\n".join(seen.trace).encode()).hexdigest()[:12]
    return Report(seed, broken, seen.sometimes, virtual / HOUR, time.perf_counter() - began, trace)


class _Complaints(logging.Handler):
    """What uvicorn says of a websocket's handler that failed."""

    def __init__(self, seen: Seen) -> None:
        super().__init__(logging.ERROR)
        self._seen = seen

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, asyncio.CancelledError):  # killed with the coordinator
            self._seen.broken.append(f"websocket: {record.getMessage().strip()} {error!r}")


@contextmanager
def _quiet(seen: Seen) -> Iterator[None]:
    """What both ends log is counted, not printed."""
    before = structlog.get_config()

    def count(_: object, level: str, record: structlog.typing.EventDict) -> structlog.typing.EventDict:
        name = record.get("action") or record["event"]
        seen.sometimes[f"logged {name}"] += 1
        if name in ("request_failed", "sweep_failed", "flush_failed"):
            seen.broken.append(f"{name}: {record.get('exc_info')!r}")
        raise structlog.DropEvent

    structlog.configure(processors=[count], cache_logger_on_first_use=False)
    server, listener = logging.getLogger("uvicorn.error"), _Complaints(seen)
    server.addHandler(listener)
    server.propagate = False
    try:
        yield
    finally:
        server.removeHandler(listener)
        server.propagate = True
        structlog.configure(**before)


class Fleet:
    def __init__(
        self, seed: int, folder: Path, loop: VirtualLoop, seen: Seen, disk: Disk, hours: float
    ) -> None:
        self.loop, self.seen, self.disk, self.hours = loop, seen, disk, hours
        self.luck = random.Random(f"{seed} world")
        settings = Settings(
            data=folder / "data",
            sweep=15,
            flush=20,
            heartbeat=self.luck.choice((30, 60)),
            stale_after=self.luck.choice((120, 200, 600)),
        )
        self.site = Site(settings, loop, seen)
        self.faults = _faults(self.luck, seed)
        self.courses = Courses(seed, longest=self.luck.choice((300, 1500, 2500)))
        self.machines: list[Machine] = []
        self.folder = folder
        self.jobs = [self._job(number) for number in range(self.luck.randrange(8, 22))]
        self._drawn = len(self.jobs)

    # The world

    def _machine(self, number: int, token: str) -> Machine:
        luck = self.luck
        strong = number == 0  # takes whatever nobody else does
        gpus = (Gpu(kind="cuda", name="sim", vram_gib=24),) * (2 if strong else luck.choice((0, 0, 1)))
        capability = Capability(
            hostname=f"box{number}",
            os="simulation",
            cores=16 if strong else luck.choice((2, 4, 8)),
            ram_gib=64 if strong else luck.choice((8, 16)),
            gpus=gpus,
            models=("gbt", "mlp", "cnn") if strong or luck.random() < 0.7 else ("gbt",),
            max_jobs=luck.choice((1, 1, 2, 3)),
        )
        wire = Wire(self.site, self.faults, self.seen, self.loop)
        wire.is_plain_only = luck.random() < 0.3
        trainers = Trainers(capability.hostname, self.courses, self.seen, self.loop)
        return Machine(
            self.folder / capability.hostname,
            token,
            capability,
            wire=wire,
            trainers=trainers,
            seen=self.seen,
            loop=self.loop,
        )

    def _job(self, number: int) -> dict[str, object]:
        luck = self.luck
        table: dict[str, object] = {
            "name": f"job {number}",
            "model": luck.choice(("gbt", "gbt", "mlp", "cnn")),
            "seed": number,
            "priority": luck.choice((0, 0, 5)),
            "max_attempts": luck.choice((1, 3, 3, 4)),
            "min_cores": luck.choice((1, 1, 2, 8)),
        }
        if luck.random() < 0.15:
            table["require_cuda"] = True
        elif luck.random() < 0.2:
            table["prefer_cuda"] = True
        if luck.random() < 0.2:
            table["denied_hosts"] = [f"box{luck.randrange(1, 8)}"]
        if luck.random() < 0.1:
            table["lease"] = 300
        if luck.random() < 0.15:
            table["timeout"] = 400
        if luck.random() < 0.6:
            table["exclusive"] = True
        return table

    async def live(self) -> tuple[float, list[str]]:
        """Virtual seconds lived, and what was found broken."""
        await self.site.start()
        await self._reload()
        token = (self.site.settings.data / "tokens" / "agent").read_text().strip()
        self.machines = [self._machine(number, token) for number in range(self.luck.randrange(3, 9))]
        for machine in self.machines:
            machine.start()
        self.disk.full, self.disk.deadly = self.luck.choice(((0.0, 0.0), (0.0, 0.01), (0.02, 0.01)))
        await self._troubles()
        quiet_at = self.loop.time()
        await self._calm()
        all_ended = await self._until(self._all_ended, PATIENCE)
        handed_in = await self._until(self._handed_in, HOUR)
        ended_at = self.loop.time()
        self.seen.trace.append(f"ended {ended_at:.3f}")
        if not all_ended:
            self.seen.broken.append(
                f"not every job ended within {(ended_at - quiet_at) / HOUR:.1f} h of quiet"
            )
        if not handed_in:
            left = [name for machine in self.machines for name in machine.left_behind()]
            self.seen.broken.append(f"never handed in: {left}")
        for machine in self.machines:
            machine.signal()
        for machine in self.machines:
            await machine.drained()
        await self.site.stop()
        deeds = [deed for machine in self.machines for deed in machine.trainers.deeds]
        ends = {machine.name: machine.down_at for machine in self.machines}
        evidence = Evidence(self.site, deeds, self.seen, ends)
        return ended_at - EPOCH, [*self.seen.broken, *self.loop.mishaps, *verdict(evidence)]

    async def _until(self, condition: Callable[[], Awaitable[bool]], seconds: float) -> bool:
        end = self.loop.time() + seconds
        while self.loop.time() < end:
            if await condition():
                return True
            await asyncio.sleep(LOOK)
        return False

    async def _all_ended(self) -> bool:
        status, page = await self.site.ask(
            "GET", "/v1/jobs?status=pending&status=claimed&status=running&limit=1"
        )
        return status == 200 and not page["jobs"]

    async def _handed_in(self) -> bool:
        for machine in self.machines:
            machine.check()
        return not any(machine.left_behind() for machine in self.machines)

    async def _reload(self) -> None:
        status, answer = await self.site.ask(
            "POST", "/v1/manifest/reload", {"toml": manifest(*self.jobs), "file": "x"}
        )
        assert status in (0, 200), answer

    # What happens to it

    async def _troubles(self) -> None:
        end = self.loop.time() + self.hours * HOUR
        async with asyncio.TaskGroup() as group:
            group.create_task(self._trouble_coordinator(end))
            group.create_task(self._trouble_operator(end))
            for machine in self.machines:
                group.create_task(self._trouble_machine(machine, end))

    async def _calm(self) -> None:
        self.faults.calm()
        self.disk.calm()
        for machine in self.machines:
            machine.wire.cut_out = machine.wire.cut_back = False
            machine.start()
        await self.site.start()

    async def _pause(self, mean: float, end: float) -> bool:
        """Wait for the next trouble; False when there is to be none any more."""
        wait = self.luck.expovariate(1 / mean)
        await asyncio.sleep(min(wait, max(0.0, end - self.loop.time())))
        return self.loop.time() < end

    def _outage(self) -> float:
        """Mostly short, sometimes longer than any lease."""
        return self.luck.choice((2.0, 20.0, 90.0, 400.0, 1300.0)) * self.luck.uniform(0.5, 1.5)

    async def _trouble_coordinator(self, end: float) -> None:
        while await self._pause(1000, end):
            if any(machine.trainers.alive() for machine in self.machines):
                self.seen.sometimes["coordinator ended while trainers ran"] += 1
            kind = self.luck.choice(("kill", "kill", "stop", "pause"))
            self.seen.trace.append(f"{self.loop.time():.3f} coordinator {kind}")
            if kind == "pause":
                self.site.pause(self._outage())
                continue
            await (self.site.kill() if kind == "kill" else self.site.stop())
            await asyncio.sleep(self._outage())
            await self.site.start()

    async def _trouble_machine(self, machine: Machine, end: float) -> None:
        while await self._pause(1000, end):
            kind = self.luck.choice(("kill", "kill", "drain", "twice", "power", "cut", "cut", "deaf"))
            self.seen.trace.append(f"{self.loop.time():.3f} {machine.name} {kind}")
            machine.check()
            if kind in ("cut", "deaf"):
                machine.wire.cut_out, machine.wire.cut_back = kind == "cut", True
                await asyncio.sleep(self._outage())
                machine.wire.cut_out = machine.wire.cut_back = False
                continue
            await self._end(machine, kind)
            await asyncio.sleep(self._outage())
            machine.start()

    async def _end(self, machine: Machine, kind: str) -> None:
        if kind == "kill":
            await machine.kill()
        elif kind == "power":
            await machine.lose_power()
        else:
            machine.signal()
            if kind == "twice":
                await asyncio.sleep(self.luck.uniform(0, 5))
                machine.signal()
            await machine.drained()

    async def _trouble_operator(self, end: float) -> None:
        while await self._pause(150, end):
            verb = self.luck.choice(("cancel", "requeue", "requeue", "accept", "again", "reload"))
            if verb == "reload":
                self._edit()
                await self._reload()
                continue
            _, page = await self.site.ask("GET", "/v1/jobs?sort=name&limit=100")
            if not page:
                continue
            wanted = {
                "cancel": ("pending", "claimed", "running"),
                "again": ("completed",),
                "accept": ("pending", "failed", "cancelled"),
            }.get(verb, ("failed", "cancelled"))
            found = [job["job_id"] for job in page["jobs"] if job["status"] in wanted]
            if found:
                await self._tell(self.luck.choice(found), verb)

    async def _tell(self, job: str, verb: str) -> None:
        path = {"accept": "accept-result", "again": "requeue"}.get(verb, verb)
        body = {"again": True} if verb == "again" else {}
        status, _ = await self.site.ask("POST", f"/v1/job/{job}/{path}", body)
        self.seen.trace.append(f"{self.loop.time():.3f} {verb} {job} {status}")
        if status == 200:
            self.seen.sometimes[f"operator: {verb}"] += 1

    def _edit(self) -> None:
        """The manifest as somebody changed it meanwhile: a job more, a job less, another priority."""
        kind = self.luck.choice(("more", "less", "priority"))
        if kind == "more":
            self._drawn += 1
            self.jobs.append(self._job(self._drawn))
        elif kind == "less" and len(self.jobs) > 5:
            self.jobs.pop(self.luck.randrange(len(self.jobs)))
        else:
            self.luck.choice(self.jobs)["priority"] = self.luck.randrange(-5, 20)


def _faults(luck: random.Random, seed: int) -> Faults:
    """Some fleets have a good network, some a terrible one."""
    scale = luck.choice((0.0, 0.3, 1.0, 1.0, 3.0))
    return Faults(
        random.Random(f"{seed} network"),
        lost_request=0.03 * scale,
        lost_answer=0.05 * scale,
        late=0.03 * scale,
        twice=0.05 * scale,
        cut_upload=0.15 * scale,
        flipped_bit=0.05 * scale,
        stranger=0.01 * scale,
        torn=0.01 * scale,
    )


def scratch() -> Path:
    """Memory where there is some: a simulated disk need not be a slow one."""
    shared = Path("/dev/shm")
    return (
        shared if shared.is_dir() and os.access(shared, os.W_OK) else Path(os.environ.get("TMPDIR", "/tmp"))
    )
