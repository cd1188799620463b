"""One coordinator and a few machines with an agent each, all real processes, in one folder."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle, islice
from pathlib import Path

import httpx
import psutil

from tests.chaos import trainer
from tests.chaos.disk import SmallDisk
from tests.chaos.proxy import Link
from tests.e2e import manifests
from tests.e2e.house import data_folder, interpreter
from tests.e2e.programs import Program, living_in, start

LEASE = {"stale-after": 4, "heartbeat": 0.5, "sweep": 0.2, "live-after": 1.2, "backoff": 0.3}
SERVE = ["fleet_server", "serve", "--data", "server", "--manifest", "manifest.toml"]
SMALL = {
    "FLEET_SERVER_LOG_RESERVE_MIB": "1",
    "FLEET_SERVER_LOG_SWEEP": "1",
    "FLEET_SERVER_MAX_LOST": "8",
}
KEEP_SECONDS = 0.3
ROOT = Path(__file__).resolve().parents[2]


class Post:
    """Where one program is to run. Whoever ends it holds `lock` until it runs again."""

    def __init__(self, launch: Callable[[], Program]) -> None:
        self._launch = launch
        self.lock = asyncio.Lock()
        self.program = launch()
        self.ends: Counter[int] = Counter()
        """Exit codes of ends that nobody asked for."""

    def start(self) -> None:
        self.program = self._launch()

    def signal(self, number: signal.Signals) -> None:
        if self.program.is_running:
            self.program.process.send_signal(number)

    async def gone(self, seconds: float = 30) -> None:
        """Wait for its end; killed when it takes too long."""
        with suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(self.program.process.wait, seconds)
        await asyncio.to_thread(self.program.end, signal.SIGKILL)

    async def keep(self) -> None:
        """As a service manager would: what ends by itself is started again."""
        while True:
            await asyncio.sleep(KEEP_SECONDS)
            if not self.lock.locked() and not self.program.is_running:
                self.ends[self.program.process.returncode] += 1
                self.start()


@dataclass
class Machine:
    name: str
    state: Path
    link: Link
    boot: int = 0
    post: Post = field(init=False)

    def attempts(self) -> list[Path]:
        """Folders of attempts whose supervisor is known."""
        with suppress(OSError):
            return sorted(file.parent for file in self.state.glob("attempts/*/pid"))
        return []


def group(attempt: Path) -> list[psutil.Process]:
    """An attempt's living processes, the supervisor first; none where the id was given to somebody else since."""
    with suppress(OSError, ValueError, psutil.Error):
        supervisor = psutil.Process(int((attempt / "pid").read_text()))
        if Path(supervisor.cwd()) == attempt:
            return [supervisor, *supervisor.children(recursive=True)]
    return []


class Fleet:
    """Everything of it is in `folder`."""

    def __init__(self, folder: Path, machines: int, minutes: float, database: str | None) -> None:
        self.folder = folder
        self.control = folder / "control"
        self.data = folder / "server"
        for path in (self.control, self.data):
            path.mkdir(mode=0o700)
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.database = database
        self.logs_disk = SmallDisk(self.data / "logs", int(min(2048, 256 + 40 * minutes)))
        self.machines = [
            Machine(f"machine-{number}", folder / "agents" / f"machine-{number}", Link(self.port))
            for number in range(machines)
        ]
        self.state_disk = SmallDisk(self.machines[0].state, 96)
        self.broken: list[str] = []
        """Promises that were seen broken on the way."""
        self.sometimes: Counter[str] = Counter()
        self.generation = 0
        """How often an older database was put back."""
        self.backups: list[Path] = []

    async def open(self, jobs: int) -> None:
        data, source = self.folder / "numbers", self.folder / "source"
        data.write_bytes(os.urandom(3_000_000))
        source.mkdir()
        (source / "source.txt").write_text(hashlib.sha256(data.read_bytes()).hexdigest())
        (self.folder / "manifest.toml").write_text(_manifest(jobs))
        self.server = Post(self._serve)
        while "listening on" not in self.server.program.said():
            assert self.server.program.is_running, self.server.program.said()
            await asyncio.sleep(0.02)
        script = [sys.executable, "-I", "-S", trainer.__file__, str(self.control)]
        python = interpreter(self.folder, script)
        for machine in self.machines:
            await machine.link.open()
            self._note_port(machine.link.port)
            machine.post = Post(partial(self._agent, machine, python))

    def client(self, role: str = "operator") -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=self.url, headers=self.authorization(role), trust_env=False, timeout=10
        )

    def authorization(self, role: str) -> dict[str, str]:
        token = (self.data / "tokens" / role).read_text().strip()
        return {"Authorization": f"Bearer {token}"}

    def posts(self) -> list[Post]:
        return [self.server, *(machine.post for machine in self.machines)]

    def programs(self) -> list[Program]:
        return [post.program for post in self.posts()]

    def unfinished(self) -> list[str]:
        """Trainers that live, and attempts that have not been handed in with all of their logs."""
        kept = [f"{path} is there" for machine in self.machines for path in machine.state.glob("attempts/*")]
        living = [one for one in living_in(self.folder / "agents") if not _is_program(one)]
        return kept + [f"a trainer lives: {one}" for one in living]

    # The database of SQLite

    def back_up(self) -> None:
        """A consistent copy, taken while the coordinator works."""
        if self.database is not None:
            return
        copy = self.folder / f"backup-{len(self.backups)}.sqlite3"
        with suppress(sqlite3.Error):
            uri = f"file:{self._sqlite}?mode=ro"
            with closing(sqlite3.connect(uri, uri=True)) as live, closing(sqlite3.connect(copy)) as target:
                live.backup(target)
            self.backups.append(copy)

    def restore(self, copy: Path) -> None:
        """Put a copy in the place of the database; the coordinator must not run. What was there is kept aside."""
        self.generation += 1
        self._sqlite.rename(self.folder / f"replaced-{self.generation}.sqlite3")
        for name in ("-wal", "-shm"):
            Path(f"{self._sqlite}{name}").unlink(missing_ok=True)
        self._sqlite.write_bytes(copy.read_bytes())
        self._sqlite.chmod(0o600)

    @property
    def _sqlite(self) -> Path:
        return self.data / "fleet.sqlite3"

    # Programs

    def _serve(self) -> Program:
        options = [str(word) for name, value in LEASE.items() for word in (f"--{name}", value)]
        where = ["--database-url", self.database] if self.database else []
        return start("server", [*SERVE, "--port", str(self.port), *where, *options], self.folder, SMALL)

    def _agent(self, machine: Machine, python: str) -> Program:
        options = {
            "server": f"http://127.0.0.1:{machine.link.port}",
            "name": machine.name,
            "state": machine.state,
            "python": python,
            "data": data_folder(self.folder),
            "max-jobs": 2,
            "grace": 1.5,
            "checkpoint-every": 1,
            "cache-gib": 0.02,
            "spool-gib": 0.003,  # a flood is more, so that there is something to give up when nobody takes it
        }
        words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
        path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        more = {"CHAOS_BOOT": f"{machine.name}-{machine.boot}", "PYTHONPATH": os.pathsep.join(path)}
        return start(machine.name, ["tests.chaos.agent", "run", *words], self.folder, more)

    def _note_port(self, port: int) -> None:
        """So that an agent finds its token behind its proxy."""
        note = self.folder / "notes" / "servers" / f"{port}.json"
        note.write_text(json.dumps({"port": port, "data": str(self.data)}))

    # The end

    async def settle(self) -> None:
        """No more faults: everything runs, every way is clear, every disk has room."""
        for disk in (self.logs_disk, self.state_disk):
            if disk.works:
                disk.make_room()
        for post in self.posts():
            post.signal(signal.SIGCONT)
        for machine in self.machines:
            machine.link.become(machine.link.weather.CLEAR)

    async def end(self) -> list[str]:
        """Ask the agents to go, then the coordinator. Complaints about those that did not."""
        complaints = []
        for post in [*(machine.post for machine in self.machines), self.server]:
            post.signal(signal.SIGTERM)
        for post in self.posts():
            began = time.monotonic()
            await post.gone()
            if post.program.process.returncode == -signal.SIGKILL:
                complaints.append(
                    f"{post.program.name} did not end within {time.monotonic() - began:.0f} s of SIGTERM"
                )
        for machine in self.machines:
            machine.link.close()
        return complaints


def _is_program(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return "-m" in process.cmdline()[:3]
    return False


OWN = """
[models.own]
command = ["python", "train"]
source = "source"
[datasets.numbers]
path = "numbers"
"""
"""A program and a data set of the manifest's: both travel as blobs. Its interpreter is our trainer, as ever."""


def _manifest(jobs: int) -> str:
    kinds = [*trainer.KINDS, "steady", "resuming", "own", "steady", "resuming", "own"]
    tables = [
        f'[[jobs]]\nname = "{kind}-{n}"\nseed = {n}\nmax_attempts = 4\n'
        + ('model = "own"\ndataset = "numbers"\n' if kind == "own" else 'model = "gbt"\n')
        for n, kind in enumerate(islice(cycle(kinds), jobs))
    ]
    return manifests.HEAD + OWN + "".join(tables)


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def be_modest() -> None:
    """Everything that is started from here on is less urgent than people's work."""
    os.nice(10)
