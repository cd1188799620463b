"""The operator's command for failures: once for each, over restarts, and never in anybody's way."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from fleet_server.events.hook import FailureHook
from fleet_server.settings import Settings
from tests.server.coordinator import Coordinator, FakeClock, jobs, manifest, running

TELLS = """
import json, os, sys
event = json.load(sys.stdin)
with open(sys.argv[1], "a") as file:
    told = [event["kind"], event["job"]["name"], *(os.environ[f"FLEET_{n}"] for n in ("JOB_ID", "JOB_NAME", "REASON"))]
    file.write(json.dumps(told) + "\\n")
"""


async def until(condition: Any) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - a file that another program writes
            await asyncio.sleep(0.01)


def told(file: Path) -> list[Any]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def command(*script: str) -> tuple[str, ...]:
    return (sys.executable, "-S", "-c", *script)


async def fail(fleet: Coordinator, reason: str = "no such\nluck") -> str:
    worker = await fleet.worker(str(uuid4()))
    held = await worker.take()
    answer = await worker.error(held, reason)
    assert answer.json()["status"] == "failed"
    return held.job.job_id


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "told"


@asynccontextmanager
async def coordinator(data: Path, clock: FakeClock, *command: str) -> AsyncIterator[Coordinator]:
    async with running(data, clock, on_failure=command) as fleet:
        await fleet.load(manifest(*jobs(9, max_attempts=1)))
        yield fleet


async def test_each_failure_is_told_once_over_restarts(data: Path, clock: FakeClock, file: Path):
    tells = command(TELLS, str(file))
    async with coordinator(data, clock, *tells) as fleet:
        first = await fail(fleet)
        await until(lambda: told(file))
        assert told(file) == [["failed", "job 000", first, "job 000", "no such\nluck"]]
        await until(lambda: note(data) > 0)
        worker = await fleet.worker()
        await worker.finish(await worker.take())
        second = await fail(fleet, "nul\0and\0all")
        await until(lambda: len(told(file)) == 2)
        last = fleet.services.feed.last
        await until(lambda: note(data) == last)
    async with coordinator(data, clock, *tells) as fleet:
        third = await fail(fleet)
        await until(lambda: len(told(file)) == 3)
    assert [line[2] for line in told(file)] == [first, second, third]


async def test_what_failed_while_it_was_down_is_told_when_it_is_back(
    data: Path, clock: FakeClock, file: Path
):
    """It died before it had told: nothing is lost."""
    async with coordinator(data, clock, *command(TELLS, str(file))):
        pass
    before = note(data)
    async with coordinator(data, clock) as fleet:
        missed = await fail(fleet)
    assert not (data / "on_failure").exists()
    (data / "on_failure").write_text(
        f"{before}\n"
    )  # as where it was killed, and not started without a command
    async with coordinator(data, clock, *command(TELLS, str(file))):
        await until(lambda: told(file))
    assert [line[2] for line in told(file)] == [missed]


async def test_who_sets_a_command_hears_of_what_fails_from_then_on(data: Path, clock: FakeClock, file: Path):
    async with coordinator(data, clock) as fleet:
        await fail(fleet)
    async with coordinator(data, clock, *command(TELLS, str(file))) as fleet:
        second = await fail(fleet)
        await until(lambda: told(file))
    assert [line[2] for line in told(file)] == [second]


@pytest.mark.parametrize("cursor", ["999999", "", "soon"])
async def test_a_cursor_that_is_none_of_this_history_begins_at_its_end(
    data: Path, clock: FakeClock, file: Path, cursor: str
):
    async with coordinator(data, clock) as fleet:
        await fail(fleet)
    (data / "on_failure").write_text(cursor)
    async with coordinator(data, clock, *command(TELLS, str(file))) as fleet:
        second = await fail(fleet)
        await until(lambda: told(file))
    assert [line[2] for line in told(file)] == [second]


async def test_one_that_fails_is_logged_and_the_next_is_told(data: Path, clock: FakeClock, file: Path):
    fails_once = "import pathlib, sys\nmark = pathlib.Path(sys.argv[1] + '1')\n"
    fails_once += "if not mark.exists():\n    mark.touch()\n    sys.exit(3)\n"
    async with coordinator(data, clock, *command(fails_once + TELLS, str(file))) as fleet:
        await fail(fleet)
        second = await fail(fleet)
        await until(lambda: told(file))
    assert [line[2] for line in told(file)] == [second]


async def test_one_that_hangs_is_ended_with_what_it_started_and_holds_up_nobody(
    data: Path, clock: FakeClock, file: Path, tmp_path: Path
):
    hangs = "import pathlib, subprocess, sys, time\nchild = subprocess.Popen(['sleep', '1000'])\n"
    hangs += "file = pathlib.Path(sys.argv[1])\nfile.with_suffix('.tmp').write_text(str(child.pid))\n"
    hangs += "file.with_suffix('.tmp').replace(file)\ntime.sleep(1000)"
    async with coordinator(data, clock) as fleet:
        services = fleet.services
        hook = FailureHook(
            services.database, services.feed, command(hangs, str(file)), tmp_path / "note", patience=1.0
        )
        looking = asyncio.create_task(hook.run())
        await until((tmp_path / "note").exists)
        await fail(fleet)
        await until(file.exists)
        last = services.feed.last
        await fail(fleet)  # the coordinator has not been waiting
        await until(lambda: int((tmp_path / "note").read_text()) >= last)
        await until(lambda: is_gone(int(file.read_text())))
        looking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await looking


def is_gone(process: int) -> bool:
    stat = Path(f"/proc/{process}/stat")
    return not stat.exists() or ") Z" in stat.read_text()


def note(data: Path) -> int:
    return int((data / "on_failure").read_text())


def test_settings_come_as_a_list_or_as_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FLEET_SERVER_ON_FAILURE", '["sh", "-c", "cat"]')
    assert Settings(data=tmp_path).on_failure == ("sh", "-c", "cat")


@pytest.mark.parametrize(
    ("flags", "variable", "said"),
    [
        (["--on-failure", "no-such-program x"], None, "there is no program 'no-such-program'"),
        (["--on-failure", 'sh "'], None, "--on-failure cannot be read"),
        ([], "sh -c cat", "FLEET_SERVER_ON_FAILURE is a JSON list"),
    ],
)
def test_a_command_that_is_none_is_a_usage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str], variable: str | None, said: str
):
    if variable is not None:
        monkeypatch.setenv("FLEET_SERVER_ON_FAILURE", variable)
    command = [sys.executable, "-m", "fleet_server", "serve", "--data", str(tmp_path / "d"), *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr
