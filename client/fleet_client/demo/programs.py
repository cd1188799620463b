"""The other programs as child processes: started by command line, always ended, none left behind."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from fleet_client.demo.folder import DemoFailed

LISTENING = re.compile(r"listening on (http://\S+)")
LOOK_SECONDS = 0.05
DRAIN_SECONDS = 20.0  # for a trainer's checkpoint
NOW_SECONDS = 8.0  # after the second request, which means: now
START_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Program:
    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    def last_lines(self, number: int = 5) -> str:
        return "\n  ".join(self.log.read_text("utf-8", "replace").splitlines()[-number:])

    def failure(self) -> DemoFailed:
        said = self.last_lines()
        ending = f"{self.name} ended unexpectedly (exit {self.process.returncode})"
        return DemoFailed(f"{ending}:\n  {said}" if said else f"{ending}.", f"its whole output: {self.log}")

    def ask_to_end(self) -> None:
        if self.is_running:
            self.process.terminate()


def environment() -> dict[str, str]:
    """Without fleet's own variables: what they say of another fleet must not reach the demo's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FLEET_")}
    if state := os.environ.get("FLEET_STATE_DIR"):
        kept["FLEET_STATE_DIR"] = state
    return kept | {"PYTHONUNBUFFERED": "1"}


def start(name: str, arguments: Sequence[str], log: Path) -> Program:
    """`python -m ARGUMENTS` in a session of its own, so that Ctrl-C reaches this program alone."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment(),
            start_new_session=True,
        )
    return Program(name, process, log)


async def ended(program: Program) -> int:
    while True:
        code = program.process.poll()
        if code is not None:
            return code
        await asyncio.sleep(LOOK_SECONDS)


async def address(program: Program) -> str:
    """The address in the line that a coordinator prints when it is ready."""
    async with asyncio.timeout(START_SECONDS):
        while True:
            alive = program.is_running
            if found := LISTENING.search(program.log.read_text("utf-8", "replace")):
                return found[1]
            if not alive:
                raise program.failure()
            await asyncio.sleep(LOOK_SECONDS)


def command(name: str) -> str:
    """How a person calls a program of fleet from this folder, also where its environment is not activated."""
    if shutil.which(name):
        return name
    script = Path(sys.executable).with_name(name)
    return shlex.quote(str(script.relative_to(Path.cwd()) if script.is_relative_to(Path.cwd()) else script))


@asynccontextmanager
async def kept(programs: list[Program]) -> AsyncIterator[None]:
    """Whatever ends the block, afterwards none of `programs` runs; the first (the coordinator) goes last."""
    try:
        yield
    finally:
        before = signal.signal(
            signal.SIGINT, signal.SIG_IGN
        )  # an impatient second Ctrl-C would leave orphans
        try:
            await stop(programs[1:])
            await stop(programs[:1])
        finally:
            signal.signal(signal.SIGINT, before)


async def stop(programs: Sequence[Program]) -> None:
    """Asks, asks again, and then does not ask."""
    for patience in (DRAIN_SECONDS, NOW_SECONDS):
        for program in programs:
            program.ask_to_end()
        try:
            async with asyncio.timeout(patience):
                for program in programs:
                    await ended(program)
            return
        except TimeoutError:
            continue
    for program in programs:
        program.process.kill()
        program.process.wait()
