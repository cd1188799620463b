"""Trainers that only exist in virtual time. They outlive their agent, print real bytes, and end as drawn."""

from __future__ import annotations

import asyncio
import json
import random
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fleet_agent import process
from tests.simulation.loop import VirtualLoop
from tests.simulation.network import Seen

VANISHED = None
"""Killed together with its supervisor: no exit status is ever recorded."""


@dataclass(frozen=True, slots=True)
class Course:
    """How one training would go if nobody stopped it."""

    seconds: float
    lines: int
    status: int | None
    heeds_sigterm: float | None
    """Seconds until it exits 75 after SIGTERM; None: it ignores SIGTERM."""


@dataclass(slots=True)
class Deed:
    """What really happened in one attempt: the truth that the coordinator's rows are held against."""

    attempt: str
    job_id: str
    machine: str
    printed: bytearray = field(default_factory=bytearray)
    began: float = 0.0
    ended: float | None = None
    status: int | None = None


@dataclass(slots=True)
class Courses:
    """Draws how trainings go: some jobs are flawed, others fail now and then."""

    seed: int
    longest: float
    tries: dict[str, int] = field(default_factory=dict)

    def draw(self, job: str) -> Course:
        number = self.tries[job] = self.tries.get(job, 0) + 1
        luck = random.Random(f"{self.seed} {job} {number}")
        character = random.Random(f"{self.seed} {job}").random()
        if character < 0.08:
            status: int | None = 2
        elif character < 0.2:
            status = 1
        else:
            endings = (0, 1, 3, 75, 128 + signal.SIGKILL, VANISHED)
            status = luck.choices(endings, (72, 8, 5, 5, 5, 5))[0]
        quick = luck.random() < 0.3
        seconds = luck.uniform(0.01, 5) if quick else luck.uniform(20, self.longest)
        heeds = None if luck.random() < 0.15 else luck.uniform(0.05, 25)
        return Course(seconds, luck.randrange(0, 6), status, heeds)


class SimulatedTrainer(process.Trainer):
    """One attempt's processes: what the agent may ask of the real ones, without any."""

    def __init__(self, folder: Path, deed: Deed | None = None) -> None:
        super().__init__(folder)
        self.folder = folder
        self.deed = deed
        self.gone = asyncio.Event()
        self._asked = asyncio.Event()

    @property
    def was_started(self) -> bool:
        return self.deed is not None

    @property
    def is_alive(self) -> bool:
        return self.deed is not None and self.deed.ended is None

    @property
    def exit_status(self) -> int | None:
        return self.deed.status if self.deed else None

    @property
    def group(self) -> int | None:
        return None

    def signal(self, number: signal.Signals) -> None:
        if number is signal.SIGKILL:
            self.end(128 + number)
        else:
            self._asked.set()

    async def ended(self) -> None:
        if self.is_alive:
            await self.gone.wait()

    def end(self, status: int | None) -> None:
        if self.deed is not None and self.deed.ended is None:
            self.deed.ended = asyncio.get_running_loop().time()
            self.deed.status = status
            self.gone.set()

    async def train(self, course: Course, luck: random.Random) -> None:
        """Print, then end; sooner when asked to, or when the machine is killed under it."""
        try:
            async with asyncio.timeout(course.seconds) as patience:
                pause = course.seconds / (course.lines + 1)
                for line in range(course.lines):
                    if await self._rested(pause):
                        break
                    self._print(
                        f"step {line}: loss={luck.random():.3f}\r\x1b[1m".encode()
                        + luck.randbytes(40)
                        + b"\n"
                    )
                await self._rested(course.seconds)
                if self._asked.is_set() and course.heeds_sigterm is None:
                    patience.reschedule(None)
                    await self.gone.wait()
        except TimeoutError:
            pass
        if self._asked.is_set() and course.heeds_sigterm is not None and self.is_alive:
            await asyncio.sleep(course.heeds_sigterm)
            self._finish(75)
        else:
            self._finish(course.status)

    async def _rested(self, seconds: float) -> bool:
        """True as soon as somebody asked it to stop, or it is gone."""
        waits = [asyncio.ensure_future(self._asked.wait()), asyncio.ensure_future(self.gone.wait())]
        try:
            done, _ = await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        return bool(done)

    def _print(self, data: bytes) -> None:
        if self.deed is not None and self.is_alive:
            with (self.folder / "log").open("ab") as log:
                log.write(data)
            self.deed.printed += data

    def _finish(self, status: int | None) -> None:
        if self.deed is None or not self.is_alive:
            return
        if status == 0:
            output = self.folder / "output"
            (output / "weights.txt").write_text(f"{self.deed.attempt}\n" * 50)
            (output / "metrics.json").write_text(json.dumps({"metrics": {"f1": {"value": 0.5}}}))
        self._print(f"ends with {status}\n".encode())
        self.end(status)


class Trainers:
    """All trainers of one machine; agents come and go."""

    def __init__(self, machine: str, courses: Courses, seen: Seen, loop: VirtualLoop) -> None:
        self._machine, self._courses, self._seen, self._loop = machine, courses, seen, loop
        self._found: dict[Path, SimulatedTrainer] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.deeds: list[Deed] = []

    @property
    def processes(self) -> process.Processes:
        return process.Processes(start=self._start, find=self._find)

    def alive(self) -> list[SimulatedTrainer]:
        return [trainer for trainer in self._found.values() if trainer.is_alive]

    def _find(self, folder: Path) -> process.Trainer:
        return self._found.get(folder) or SimulatedTrainer(folder)

    def _start(self, folder: Path, command: Sequence[str], environment: Mapping[str, str]) -> process.Trainer:
        attempt = folder.name
        job = json.loads(Path(environment["FLEET_JOB_SPEC"]).read_text())["job_id"]
        if attempt not in self._seen.granted:
            self._seen.broken.append(f"{attempt} was started without a claim's answer")
        if any(deed.attempt == attempt for deed in self.deeds):
            self._seen.broken.append(f"{attempt} was started twice")
        deed = Deed(attempt, job, self._machine, began=self._loop.time())
        self.deeds.append(deed)
        trainer = self._found[folder] = SimulatedTrainer(folder, deed)
        luck = random.Random(attempt)
        task = self._loop.create_task(trainer.train(self._courses.draw(job), luck))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return trainer

    async def end_all(self) -> None:
        """The machine loses its power."""
        for trainer in self.alive():
            trainer.end(VANISHED)
        if self._tasks:
            await asyncio.wait(self._tasks)
