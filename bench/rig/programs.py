"""fleet's own programs for a measurement: started on free ports in a folder of their own, ended with it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from fleet_protocol.local import Role

HEAD = "schema_version = 1\n[defaults]\nmin_ram_gib = 0\n"
START_SECONDS = 60.0
LOOK_SECONDS = 0.01


@dataclass
class Fleet:
    """A coordinator, and what was started beside it."""

    folder: Path
    url: str = ""
    programs: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def server(self) -> subprocess.Popen[bytes]:
        return self.programs[0]

    @property
    def tokens(self) -> Path:
        return self.folder / "server" / "tokens"

    def token(self, role: Role) -> str:
        return (self.tokens / role).read_text().strip()

    def client(self, role: Role) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.token(role)}"}
        return httpx.Client(base_url=self.url, headers=headers, trust_env=False, timeout=60)

    def agent(self, name: str, python: str, *options: str) -> subprocess.Popen[bytes]:
        """An agent that has registered."""
        data = self.folder / "data"  # looks like some, or no model would be offered
        data.mkdir(exist_ok=True)
        for file in ("data.parquet", "dataset.json"):
            (data / file).touch()
        own = ["--server", self.url, "--name", name, "--state", str(self.folder / name), "--python", python]
        own += ["--data", str(data), *options]
        agent = self._start(["fleet_agent", "run", *own], subprocess.DEVNULL)
        with self.client("viewer") as http:
            wait_for(lambda: name in http.get("/v1/workers").text, f"{name} to register")
        return agent

    def _serve(self, manifest: str, database: str | None, settings: Mapping[str, str]) -> None:
        (self.folder / "manifest.toml").write_text(manifest)
        options = ["--port", "0", "--data", "server", "--manifest", "manifest.toml"]
        options += ["--database-url", database] if database else []
        server = self._start(["fleet_server", "serve", *options], subprocess.PIPE, settings)
        assert server.stdout is not None
        line = server.stdout.readline().decode()
        if "listening on " not in line:
            raise RuntimeError(f"the coordinator did not start; see {self.folder}")
        self.url = line.rpartition("listening on ")[2].strip()

    def _start(
        self, module: Sequence[str], output: int, settings: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        with (self.folder / "errors").open("ab") as errors:
            program = subprocess.Popen(
                [sys.executable, "-m", *module],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                cwd=self.folder,
                env=environment() | {"FLEET_STATE_DIR": str(self.folder / "notes")} | dict(settings or {}),
            )
        self.programs.append(program)
        return program


def rss_mib(pid: int) -> float:
    return float(psutil.Process(pid).memory_info().rss / 2**20)


def cpu_seconds(pid: int) -> float:
    """Moves less than any rate does when the machine is shared."""
    times = psutil.Process(pid).cpu_times()
    return float(round(times.user + times.system, 2))


def environment() -> dict[str, str]:
    """As on a user's machine: no other fleet is known, and what was compiled once is kept (it costs memory too)."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FLEET_")}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    return kept


def tables(jobs: int) -> str:
    """A manifest of so many jobs, each written out."""
    return HEAD + "".join(f'[[jobs]]\nname = "job-{n}"\nmodel = "gbt"\nseed = {n}\n' for n in range(jobs))


def grid(jobs: int) -> str:
    """A manifest of so many jobs (a multiple of a hundred, at most a hundred thousand) by a matrix."""
    columns = 1000 if jobs > 10_000 else 100
    leaves, trees = list(range(2, 2 + columns)), list(range(1, 1 + jobs // columns))
    matrix = f"matrix = {{ leaves = {leaves}, trees = {trees} }}"
    return f'{HEAD}[[jobs]]\nname = "grid"\nmodel = "gbt"\n{matrix}\n'


@contextmanager
def running(folder: Path, *, manifest: str, database: str | None = None, **settings: str) -> Iterator[Fleet]:
    """A coordinator with the manifest's jobs queued, on SQLite or the database named; all of it ends with the block.

    `settings` are added to its environment.
    """
    folder.mkdir(parents=True, exist_ok=True)
    fleet = Fleet(folder)
    try:
        fleet._serve(manifest, database, settings)
        yield fleet
    finally:
        for program in reversed(fleet.programs):
            program.terminate()
            program.wait(30)
            if program.stdout is not None:
                program.stdout.close()


def wait_for(
    condition: Callable[[], object], what: str, most: float = START_SECONDS, look: float = LOOK_SECONDS
) -> None:
    end = time.monotonic() + most
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"waited {most:g} s in vain for {what}")
        time.sleep(look)
