"""One fleet for one test: a coordinator, agents, trainers that a test holds in its hand, and the command line."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from fleet_protocol.jobs import JobDetail
from fleet_protocol.states import JobStatus
from tests.e2e.programs import END_SECONDS, Program, T, environment, left_behind, start, until
from tests.history import passed_over

TRACEBACK = "Traceback (most recent call last)"
TRAINER = Path(__file__).with_name("trainer.py")
# What an interpreter with everything installed answers when the agent asks it for its models.
FACTS = {
    "python": "3.11.0",
    "packages": ["fleet_trainer", "lightgbm", "numpy", "polars", "safetensors", "torch"],
}


class House:
    """Everything of it is in `folder`. `close` ends every program and looks at what was left."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.control = folder / "control"
        self.control.mkdir()
        self.programs: list[Program] = []
        self.url = ""
        self._http = httpx.Client(trust_env=False, timeout=30)

    # Programs

    def serve(self, manifest: str | None = None, **flags: float) -> Program:
        """Start the coordinator: anew, or again on the same port and data."""
        port = httpx.URL(self.url).port if self.url else 0
        options = [
            str(part) for name, value in flags.items() for part in (f"--{name.replace('_', '-')}", value)
        ]
        if manifest is not None:
            (self.folder / "manifest.toml").write_text(manifest)
        given = ["--manifest", "manifest.toml"] if (self.folder / "manifest.toml").exists() else []
        command = ["serve", "--port", str(port), "--data", "server", *given, *options]
        server = self._start("server", ["fleet_server", *command])

        def listening() -> str:
            assert server.is_running, server.said()
            found = re.search(r"listening on (http://\S+)", server.said())
            return found[1] if found else ""

        self.url = self.until(listening, "the coordinator's address")
        token = (self.folder / "server" / "tokens" / "operator").read_text().strip()
        self._http.headers["Authorization"] = f"Bearer {token}"
        return server

    def agent(self, name: str, *more: str, real: bool = False) -> Program:
        """Start an agent, or start it again on its state folder. `real`: with fleet's own trainer."""
        trainer = [sys.executable, "-I", "-S", str(TRAINER), str(self.control)]
        python = sys.executable if real else interpreter(self.folder, trainer)
        own = ["--server", self.url, "--name", name, "--state", str(self.state(name)), "--python", python]
        more = more if "--data" in more else (*more, "--data", str(data_folder(self.folder)))
        return self._start(name, ["fleet_agent", "run", *own, *more])

    def state(self, agent: str) -> Path:
        return self.folder / "agents" / agent

    def command(self, name: str, *arguments: str) -> Program:
        """A `fleet` command that stays."""
        return self._start(name, ["fleet_client", *arguments, "--url", self.url])

    def fleet(self, *arguments: str, code: int = 0) -> str:
        """What a `fleet` command prints; its exit code must be `code`."""
        done = subprocess.run(
            [sys.executable, "-m", "fleet_client", *arguments, "--url", self.url],
            capture_output=True,
            text=True,
            env=environment(self.folder),
            cwd=self.folder,
            timeout=END_SECONDS,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert TRACEBACK not in done.stderr
        return done.stdout + done.stderr

    def _start(self, name: str, module: Sequence[str]) -> Program:
        program = start(name, module, self.folder)
        self.programs.append(program)
        return program

    # Questions

    def until(self, condition: Callable[[], T], what: str) -> T:
        return until(condition, self.programs, what=what)

    def get(self, path: str, **query: str | int) -> httpx.Response:
        return self._http.get(f"{self.url}{path}", params=query)

    def job(self, name: str) -> JobDetail:
        return JobDetail.model_validate_json(self.get(f"/v1/job/{name}").raise_for_status().content)

    def jobs(self) -> list[dict[str, Any]]:
        return self.get("/v1/jobs", limit=1000).raise_for_status().json()["jobs"]

    def events(self) -> list[dict[str, Any]]:
        """The whole history; its ids have no gap but where a coordinator started, and no repetition."""
        events = self.get("/v1/events", after=0, limit=1000).raise_for_status().json()["events"]
        told = [(one["event"], datetime.fromisoformat(one["at"])) for one in events]
        assert not [*passed_over(told)]
        return events

    def story(self, name: str) -> list[str]:
        """The kinds of one job's events, in order."""
        return [one["kind"] for one in self.events() if one["job"] and one["job"]["name"] == name]

    def until_status(self, name: str, status: JobStatus) -> JobDetail:
        self.until(lambda: self.job(name).status == status, f"{name} to be {status}")
        return self.job(name)

    def log(self, name: str, attempt: str | None = None) -> bytes:
        """The log as the coordinator has it."""
        query = {"attempt": attempt} if attempt else {}
        answer = self.get(f"/v1/job/{name}/log", **query)
        return answer.content if answer.is_success else b""

    # The trainers

    def go(self, name: str, *, fail: bool = False) -> None:
        """Let a job's trainer end."""
        (self.control / f"{name}.{'fail' if fail else 'go'}").touch()

    def printed(self, name: str, attempt: int = 1) -> bytes:
        """What the trainer of an attempt says that it printed."""
        file = self.control / f"{name}-{attempt}.printed"
        return file.read_bytes() if file.exists() else b""

    def trainer(self, name: str, attempt: int = 1) -> int:
        """The process id of an attempt's trainer, once some of what it printed has arrived."""
        self.until(lambda: self.job(name).attempts == attempt and self.log(name), f"a log of {name}")
        return int((self.control / f"{name}-{attempt}.pid").read_text())

    def until_log_has(self, name: str, length: int) -> None:
        self.until(lambda: len(self.log(name)) >= length, f"{length} bytes of the log of {name}")

    def kill_machine(self, agent: Program) -> None:
        """As when its plug is pulled: the agent and everything it started are gone at once."""
        agent.process.send_signal(signal.SIGSTOP)  # so that it sees nothing of what follows
        for file in (self.state(agent.name) / "attempts").glob("*/pid"):
            os.killpg(int(file.read_text()), signal.SIGKILL)
        agent.end(signal.SIGKILL)

    # The end

    def close(self) -> None:
        """Ends what runs, the coordinator last. Fails when something does not end, printed a traceback or lives on."""
        self._http.close()
        stubborn = []
        for program in sorted(self.programs, key=lambda one: one.name == "server"):
            try:
                program.end()
            except subprocess.TimeoutExpired:
                program.end(signal.SIGKILL)
                stubborn.append(program.name)
        orphans = left_behind(self.folder)
        assert not stubborn, f"did not end when asked to: {stubborn}"
        assert not orphans, f"left behind: {orphans}"
        confused = [one.said() for one in self.programs if TRACEBACK in one.said()]
        assert not confused, confused[0]


def data_folder(house: Path) -> Path:
    """A folder that looks like data: without one an agent offers no model, and our trainers read none."""
    folder = house / "data"
    folder.mkdir(exist_ok=True)
    for name in ("data.parquet", "dataset.json"):
        (folder / name).touch()
    return folder


def interpreter(house: Path, trainer: Sequence[str]) -> str:
    """A `python` that knows only two things: the answer to the agent's probe, and `trainer`, a command."""
    script = house / "python"
    answer, command = shlex.quote(json.dumps(FACTS)), shlex.join(trainer)
    script.write_text(f'#!/bin/sh\nif [ "$1" = -c ]; then echo {answer}; else exec {command}; fi\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return str(script)
