"""fleet's own programs for a measurement: started on free ports in a folder of their own, ended with it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from fleet_protocol.local import Role

HEAD = "schema_version = 1\n[defaults]\nmin_ram_gib = 0\n"
START_SECONDS = 60.0
LOOK_SECONDS = 0.01


@dataclass
class Fleet:
    """A coordinator on SQLite, and what was started beside it."""

    folder: Path
    url: str = ""
    programs: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def server(self) -> subprocess.Popen[bytes]:
        return self.programs[0]

    def client(self, role: Role) -> httpx.Client:
        token = (self.folder / "server" / "tokens" / role).read_text().strip()
        return httpx.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {token}"}, trust_env=False, timeout=60
        )

    def agent(self, name: str, python: str) -> subprocess.Popen[bytes]:
        """An agent that has registered."""
        own = ["--server", self.url, "--name", name, "--state", str(self.folder / name), "--python", python]
        agent = self._start(["fleet_agent", "run", *own], subprocess.DEVNULL)
        with self.client("viewer") as http:
            wait_for(lambda: name in http.get("/v1/workers").text, f"{name} to register")
        return agent

    def _serve(self, jobs: int) -> None:
        tables = "".join(f'[[jobs]]\nname = "job-{n}"\nmodel = "gbt"\nseed = {n}\n' for n in range(jobs))
        (self.folder / "manifest.toml").write_text(HEAD + tables)
        options = ["--port", "0", "--data", "server", "--manifest", "manifest.toml"]
        server = self._start(["fleet_server", "serve", *options], subprocess.PIPE)
        assert server.stdout is not None
        line = server.stdout.readline().decode()
        if "listening on " not in line:
            raise RuntimeError(f"the coordinator did not start; see {self.folder}")
        self.url = line.rpartition("listening on ")[2].strip()

    def _start(self, module: Sequence[str], output: int) -> subprocess.Popen[bytes]:
        with (self.folder / "errors").open("ab") as errors:
            program = subprocess.Popen(
                [sys.executable, "-m", *module],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                cwd=self.folder,
                env=environment() | {"FLEET_STATE_DIR": str(self.folder / "notes")},
            )
        self.programs.append(program)
        return program


def environment() -> dict[str, str]:
    """As on a user's machine: no other fleet is known, and what was compiled once is kept (it costs memory too)."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FLEET_")}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    return kept


@contextmanager
def running(folder: Path, *, jobs: int) -> Iterator[Fleet]:
    """A coordinator with `jobs` jobs queued; everything started on it ends with the block."""
    folder.mkdir()
    fleet = Fleet(folder)
    try:
        fleet._serve(jobs)
        yield fleet
    finally:
        for program in reversed(fleet.programs):
            program.terminate()
            program.wait(30)
            if program.stdout is not None:
                program.stdout.close()


def wait_for(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + START_SECONDS
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"waited {START_SECONDS:g} s in vain for {what}")
        time.sleep(LOOK_SECONDS)
