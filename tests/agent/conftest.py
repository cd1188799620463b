"""Fixtures: a coordinator on a real port, trainers that are tiny real programs, and agents around them."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from fleet_agent.agent import Agent
from fleet_agent.limits import Clock, since_boot
from fleet_agent.settings import Settings, Timing
from fleet_agent.state import StateFolder
from fleet_agent.uplink import Uplink
from fleet_protocol.capability import Capability
from tests.agent.coordinator import TOKEN, Coordinator

QUICK = Timing(
    claim_wait=0.3,
    retry_ceiling=0.1,
    log_poll=0.01,
    log_patience=1.0,
    http_logs=60.0,
    progress=0.02,
    quiet=0.1,
    farewell=2.0,
)
CAPABILITY = Capability(hostname="here", os="test", cores=2, ram_gib=4, models=("mlp", "gbt"))


@pytest.fixture
async def coordinator() -> AsyncIterator[Coordinator]:
    fake = Coordinator()
    await fake.start()
    yield fake
    await fake.stop()


@pytest.fixture
def trainer(tmp_path: Path) -> Callable[[str], str]:
    """Takes the text of a Python script; returns an `interpreter` that runs it whatever module it is asked to run."""

    def write(script: str) -> str:
        program, interpreter = tmp_path / "trainer.py", tmp_path / "python"
        program.write_text("import json, os, pathlib, signal, subprocess, sys, time\n" + script)
        real = f'{sys.executable} "$@"'  # the agent's probes want to know about a real interpreter
        interpreter.write_text(
            f'#!/bin/sh\ncase "$1" in -c) exec {real};; *) exec {sys.executable} -S {program} "$@";; esac\n'
        )
        interpreter.chmod(0o755)
        return str(interpreter)

    return write


class Bench:
    """Runs agents against one coordinator, all on the same state folder."""

    def __init__(self, coordinator: Coordinator, folder: Path) -> None:
        self.coordinator = coordinator
        self.settings = Settings(server=coordinator.url, state=folder / "state", name="tester", grace=10.0)
        self.timing = QUICK
        self.clock: Clock = since_boot

    def set(self, **changes: object) -> None:
        self.settings = dataclasses.replace(self.settings, **changes)  # type: ignore[arg-type]  # any field may be given

    @contextlib.asynccontextmanager
    async def agent(self, *, dies: bool = False) -> AsyncIterator[Agent]:
        """A running agent. It is drained at the end, or just disappears as a killed process does."""
        state = StateFolder(self.settings.state)
        uplink = Uplink(self.coordinator.url, lambda: TOKEN, retry_ceiling=self.timing.retry_ceiling)
        agent = Agent(
            self.settings, self.timing, state=state, uplink=uplink, capability=CAPABILITY, clock=self.clock
        )
        self.running = running = asyncio.create_task(agent.run())
        try:
            yield agent
        finally:
            if dies:
                running.cancel()
            else:
                agent.on_signal()
            await asyncio.wait([running])
            await uplink.close()
            state.close()
            with contextlib.suppress(asyncio.CancelledError):
                running.result()

    def attempts(self) -> list[Path]:
        return list((self.settings.state / "attempts").iterdir())


@pytest.fixture
def bench(coordinator: Coordinator, tmp_path: Path) -> Bench:
    return Bench(coordinator, tmp_path)


class Hand:
    """A clock that is moved by hand, as a machine's goes on while it sleeps."""

    def __init__(self) -> None:
        self.now = 5000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def hand(bench: Bench) -> Hand:
    bench.clock = hand = Hand()
    return hand


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "FLEET_STATE_DIR": str(tmp_path),
        "FLEET_TOKEN": TOKEN,
    }


def is_running(pid: int) -> bool:
    """True while the process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def until(condition: Callable[[], object]) -> None:
    """For what only shows in the file system or the process table."""
    while not condition():  # noqa: ASYNC110 - nothing tells of these
        await asyncio.sleep(0.01)


assert os.name == "posix", "the agent's tests run real POSIX processes"
