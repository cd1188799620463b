"""The demo from an empty folder to its last table."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from fleet_client.client import FleetClient
from fleet_client.demo.folder import DemoFailed, Folder, bundled_manifest
from fleet_client.demo.programs import Program, address, command, ended, environment, kept, start
from fleet_client.demo.story import Story
from fleet_client.demo.verdict import surprises
from fleet_client.errors import FleetError
from fleet_client.text import counted
from fleet_protocol.jobs import ArtifactView, Explanation, JobView
from fleet_protocol.manifest import load
from fleet_protocol.plan import Category, Plan

AGENTS = ("elliott-thinkpad", "pi-garage")
LINGER_SECONDS = 4.0  # of the dashboard, once there is nothing left to see
NEEDED = {
    "fastapi": "server",
    "sqlalchemy": "server",
    "uvicorn": "server",
    "psutil": "agent",
} | dict.fromkeys(("numpy", "polars", "lightgbm"), "train")


@dataclass(frozen=True, slots=True)
class Outcome:
    jobs: list[JobView]
    artifacts: dict[str, ArtifactView]
    waiting: dict[str, Explanation]
    seconds: float

    @property
    def surprises(self) -> list[str]:
        return surprises(self.jobs)


def check_installed() -> None:
    """Says all that is missing, and how to get it, before anything is started."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        extras = ",".join(sorted({NEEDED[name] for name in missing}))
        raise DemoFailed(
            f"The demo needs packages that are not installed here: {', '.join(missing)}.",
            f"pip install 'fleet-lab[{extras}]', or in a checkout: python3 run.py setup",
        )


async def show(folder: Folder, *, dashboard: bool, write: Callable[[str], None]) -> Outcome:
    """Everything started, watched until nothing more can happen, and ended again."""
    began = time.monotonic()

    def say(line: str) -> None:
        write(f"{time.monotonic() - began:6.1f} s  {line}")

    torch = find_spec("torch") is not None
    if not torch:
        say("torch is not installed here, so only gradient-boosted trees are trained.")
    folder.manifest.write_text(bundled_manifest(torch=torch), "utf-8")
    programs: list[Program] = []
    stop_on_signals()
    async with kept(programs):
        url = await started(folder, programs, say)
        async with FleetClient(url, folder.operator_token()) as fleet:
            plan = await fleet.reload()
            say(f"{counted(len(plan.entries), 'job')} in {folder.manifest}; {standing(plan)}")
            story = Story(fleet, say, muted=dashboard)
            for name in AGENTS:
                programs.append(start(name, agent_command(folder, url, name), folder.log(name)))
            waiting = await watched(story, programs, url if dashboard else None)
            jobs = sorted(await fleet.all_jobs(), key=order_in(folder.manifest))
            artifacts = {str(one.sha256): one for one in (await fleet.artifacts()).models}
        say("Everything has settled; ending the programs.")
    why = {str(one.job_id): one for one in waiting}
    return Outcome(jobs, artifacts, why, time.monotonic() - began)


def order_in(manifest: Path) -> Callable[[JobView], int]:
    """As the manifest lists them; jobs of an older manifest come last."""
    order = {job.job_id: number for number, job in enumerate(load(manifest).jobs)}
    return lambda job: order.get(job.job_id, len(order))


def stop_on_signals() -> None:
    """A polite kill, or a closed terminal, ends the demo as cleanly as Ctrl-C does."""
    task = asyncio.current_task()
    if os.name == "nt" or task is None:
        return
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)


async def started(folder: Folder, programs: list[Program], say: Callable[[str], None]) -> str:
    """The coordinator runs and the data set is there; returns the coordinator's address."""
    serve = ["fleet_server", "serve", "--host", "127.0.0.1", "--port", "0", "--data", str(folder.coordinator)]
    server = start("coordinator", [*serve, "--manifest", str(folder.manifest)], folder.log("coordinator"))
    programs.append(server)
    if not (folder.dataset / "dataset.json").exists():
        say("Writing the smartwatch recordings (140 of 10 people, 7 exercises) as Parquet.")
        convert = ["fleet_trainer", "convert", "watch", "--out", str(folder.dataset)]
        conversion = start("conversion", convert, folder.log("conversion"))
        programs.append(conversion)
        if await ended(conversion):
            raise DemoFailed("The data set could not be prepared:\n  " + conversion.last_lines())
        programs.remove(conversion)
    url = await address(server)
    look = f"{command('fleet')} --url {url} status"
    say(f"The coordinator listens on {url}; look at it from another terminal: {look}")
    return url


def agent_command(folder: Folder, url: str, name: str) -> list[str]:
    state, data = str(folder.agent(name).resolve()), str(folder.dataset.resolve())
    return ["fleet_agent", "run", "--server", url, "--name", name, "--state", state, "--data", data]


def standing(plan: Plan) -> str:
    trained = plan.count(Category.TRAINED)
    return (
        f"{trained} of them trained by an earlier run, and not trained again"
        if trained
        else "none trained yet"
    )


async def watched(story: Story, programs: list[Program], url: str | None) -> list[Explanation]:
    """Watches until all is settled, in the dashboard at `url` for as long as the person wants it."""

    def check() -> None:
        for program in programs:
            if not program.is_running:
                raise program.failure()

    try:
        async with asyncio.TaskGroup() as tasks:
            events = tasks.create_task(story.follow())
            screen = tasks.create_task(dashboard_at(url, story)) if url else None
            waiting = await story.settled(set(AGENTS), check)
            if screen:
                await asyncio.wait({screen}, timeout=LINGER_SECONDS)
                screen.cancel()
            events.cancel()
    except* FleetError as group:
        raise first(group) from None
    return waiting


def first(group: BaseExceptionGroup[FleetError]) -> FleetError:
    error = group.exceptions[0]
    return first(error) if isinstance(error, BaseExceptionGroup) else error


async def dashboard_at(url: str, story: Story) -> None:
    """Shows fleet-tui until the person quits it, or this is cancelled."""
    program = [sys.executable, "-m", "fleet_tui", "--url", url]
    process = await asyncio.create_subprocess_exec(*program, env=environment())
    try:
        await process.wait()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
        story.muted = False
    if process.returncode:
        story.say(f"The dashboard ended with exit {process.returncode}; going on with lines.")
    elif not story.over:
        story.say("The dashboard is closed, and training goes on; Ctrl-C ends it.")
