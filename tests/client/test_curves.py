"""`fleet metrics`, and progress and gauges in the lists, as a process against a real coordinator."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import pty
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from fleet_protocol.workers import ClaimAnswer
from fleet_server.schema import migrate
from tests.client.test_operator import Lab, read_all
from tests.server.coordinator import FakeClock, Worker, job, manifest, running

Held = tuple[Worker, ClaimAnswer]


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    migrate(f"sqlite:///{data / 'fleet.sqlite3'}")
    async with running(data, FakeClock()) as coordinator:
        yield Lab(coordinator, tmp_path)


@pytest.fixture
async def held(lab: Lab) -> Held:
    await lab.coordinator.load(manifest(job("curvy")))
    gpu = {"kind": "cuda", "name": "RTX", "vram_gib": 8}
    worker = await lab.coordinator.worker("gpu-desktop", gpus=[gpu])
    return worker, await worker.take()


async def tell(held: Held, **curves: Sequence[float | None]) -> None:
    worker, attempt = held
    points: list[dict[str, Any]] = [
        {"name": name, "step": step, "value": value, "at": 1000.0 + step}
        for name, values in curves.items()
        for step, value in enumerate(values, 1)
    ]
    body = {"worker": worker.id, "first": 0, "points": points}
    assert (await worker.post(f"/v1/attempt/{attempt.attempt}/metrics", body)).status_code == 200


async def test_curves_are_drawn_below_each_other(lab: Lab, held: Held):
    await tell(held, loss=[1.0, 0.5, None, 0.25], accuracy=[0.1, 0.9])
    drawn = (await lab("metrics", "curvy")).out
    assert drawn.index("loss  0.25 at step 4  (lowest 0.25 at 4, highest 1 at 1)") < drawn.index(
        "accuracy  0.9"
    )
    assert drawn.count("┤") == 4
    assert "\x1b" not in drawn
    only = (await lab("metrics", "curvy", "--name", "accuracy")).out
    assert "loss" not in only
    assert only.startswith("accuracy  0.9 at step 2")


async def test_a_plot_is_as_wide_as_the_terminal_and_coloured_only_there(lab: Lab, held: Held):
    await tell(held, loss=[1.0, 0.5])
    seen = await lab.at_terminal("metrics", "curvy", COLUMNS="60", LINES="30")
    assert max(map(len, seen.replace("\x1b[1m", "").replace("\x1b[0m", "").splitlines())) == 60
    plain = await lab.at_terminal("metrics", "curvy", COLUMNS="60", LINES="30", NO_COLOR="1", TERM="dumb")
    assert "\x1b" not in plain
    ascii_only = await lab.at_terminal("metrics", "curvy", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert "*" in ascii_only
    assert "┤" not in ascii_only


async def test_for_other_programs(lab: Lab, held: Held):
    await tell(held, **{'lo,"ss': [1.0, None]})
    rows = list(csv.reader((await lab("metrics", "curvy", "--csv")).out.splitlines()))
    assert rows == [
        ["name", "step", "value", "unix_seconds"],
        ['lo,"ss', "1", "1.0", "1001.0"],
        ['lo,"ss', "2", "", "1002.0"],
    ]
    told = json.loads((await lab("metrics", "curvy", "--json")).out)
    assert told["attempt"] == held[1].attempt
    assert told["series"] == {'lo,"ss': [[1, 1.0, 1001.0], [2, None, 1002.0]]}


async def test_other_attempts(lab: Lab, held: Held):
    worker, first = held
    await tell(held, loss=[1.0, 0.9])
    await worker.say("release", first, reason="drained")
    second = await worker.take()
    none = await lab("metrics", "curvy")
    assert (none.code, none.out.split(":")[0]) == (0, "No metrics yet")
    assert "loss  0.9 at step 2" in (await lab("metrics", "curvy", "--attempt", first.attempt)).out
    assert "loss  0.9 at step 2" in (await lab("metrics", "curvy", "--whole")).out
    await tell((worker, second), loss=[0.5])
    assert "loss  0.5 at step 1  (lowest 0.5 at 1, highest 0.5 at 1)" in (await lab("metrics", "curvy")).out


async def test_what_is_not_there_ends_in_a_sentence(lab: Lab, held: Held):
    await tell(held, loss=[1.0])
    wrong = await lab("metrics", "curvy", "--name", "los")
    assert (wrong.code, wrong.err) == (1, "fleet: the job has told no curve 'los'; there are: loss.\n")
    assert (await lab("metrics", "nobody")).code == 1
    assert (await lab("metrics", "curvy", "--watch")).code == 2
    assert (await lab("status", "--watch")).code == 2


async def test_names_that_would_drive_a_terminal_do_not(lab: Lab, held: Held):
    await tell(held, **{"\x9b31mred\u009d0;title\u009c": [1.0]})
    assert "\x9b" not in (await lab("metrics", "curvy")).out


async def test_more_curves_than_fit_are_named(lab: Lab, held: Held):
    await tell(held, **{f"curve {number}": [1.0] for number in range(8)})
    drawn = (await lab("metrics", "curvy")).out
    assert drawn.splitlines()[-1] == "2 curves more; --name draws one of: curve 6, curve 7"


async def test_watching_ends_with_the_training(lab: Lab, held: Held):
    worker, attempt = held
    await tell(held, loss=[1.0])
    watching = asyncio.create_task(lab.at_terminal("metrics", "curvy", "--watch", COLUMNS="80", LINES="30"))
    await worker.error(attempt, kind="refused")
    seen = await watching
    assert "1 at step 1  (lowest 1 at 1" in seen
    assert "curvy  failed" in seen


async def beat(lab: Lab, held: Held, **more: Any) -> None:
    worker, attempt = held
    assert (await worker.say("heartbeat", attempt, **more)).status_code == 200


async def test_how_far_and_how_busy(lab: Lab, held: Held):
    await beat(lab, held, progress={"step": 10, "total": 100})
    lab.coordinator.clock.advance(60)
    await beat(
        lab,
        held,
        progress={"step": 40, "total": 100, "phase": "train"},
        gauges={"cpu_pct": 35, "ram_used_gib": 4.2, "gpus": [{"busy_pct": 90, "temperature_c": 71}]},
    )
    assert "40%, 2m left" in (await lab("list")).row("curvy")
    assert "gpu-desktop, 40%, 2m left" in (await lab("status")).row("curvy")
    assert "40%, 2m left, step 40 of 100, train" in (await lab("show", "curvy")).row("Progress")
    row = (await lab("workers")).row("gpu-desktop")
    assert "8 (35%)" in row
    assert "4.2 of 32.0 GiB" in row
    assert "RTX 8 GiB (90%, 71 °C)" in row


def heed_interrupts() -> None:
    """A shell's background job is started to ignore them, and so would every program of this test run."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


async def test_status_is_followed_as_lines(lab: Lab, held: Held):
    worker, attempt = held
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "fleet_client", "status", "--watch", "--json"),
        env={**os.environ, **lab.address()},
        stdout=asyncio.subprocess.PIPE,
        preexec_fn=heed_interrupts,
        limit=2**20,
    )
    assert child.stdout is not None
    first = json.loads(await child.stdout.readline())
    assert [one["status"] for one in first["jobs"]] == ["running"]
    await worker.error(attempt, kind="refused")
    while (json.loads(await child.stdout.readline()))["counts"]["failed"] != 1:
        pass
    child.send_signal(signal.SIGINT)
    await child.stdout.read()
    assert await child.wait() == 130


async def test_status_is_drawn_live(lab: Lab, held: Held):
    worker, attempt = held
    ours, theirs = pty.openpty()
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "fleet_client", "status", "--watch"),
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "30", **lab.address()},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        preexec_fn=heed_interrupts,
    )
    os.close(theirs)

    def read_until(wanted: bytes) -> bytes:
        seen = b""
        while wanted not in seen:
            seen += os.read(ours, 65536)
        return seen

    await asyncio.to_thread(read_until, b"Running")
    await worker.error(attempt, "ValueError: no", kind="refused")
    await asyncio.to_thread(read_until, b"ValueError: no")
    child.send_signal(signal.SIGINT)
    assert await child.wait() == 130
    assert "Traceback" not in await asyncio.to_thread(read_all, ours)
