"""Trainers that end oddly, hide, or do not end: each comes to a truthful end, and leaves no process behind."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable

import pytest

from fleet_protocol.errors import Code
from fleet_protocol.states import FailureKind, ReleaseReason
from fleet_protocol.workers import FailRequest, ReleaseRequest
from tests.agent.conftest import Bench, is_running, until
from tests.agent.coordinator import Coordinator, job_spec
from tests.agent.test_life import TRAINS, WAITS, has_printed, problem

Script = Callable[[str], str]

HIDES = """
for apart in (False, True):
    child = subprocess.Popen(["sleep", "1000"], start_new_session=apart)
    print("child", child.pid, flush=True)
"""


def children(log: bytearray) -> list[int]:
    return [int(line.split()[1]) for line in log.decode().splitlines() if line.startswith("child")]


@pytest.mark.parametrize(
    ("script", "status", "said"),
    [
        ("sys.exit(75)", 75, "exit code 75 though nobody had asked it to"),
        ("os.kill(os.getpid(), 9)", 137, "killed by SIGKILL, often the sign of too little memory"),
        (
            "print('so far', flush=True)\nos.kill(os.getpid(), 11)",
            139,
            "killed by SIGSEGV; it last printed: so far",
        ),
        ("sys.exit(4)", 4, "ended with exit code 4 and printed nothing"),
    ],
)
async def test_an_odd_ending_is_told_as_it_was(
    bench: Bench, coordinator: Coordinator, trainer: Script, script: str, status: int, said: str
) -> None:
    bench.set(python=trainer(script))
    coordinator.offer(job_spec())
    async with bench.agent():
        [failed] = await coordinator.told("fail")
    assert isinstance(failed, FailRequest)
    assert (failed.kind, failed.exit_code) == (FailureKind.ERROR, status)
    assert said in failed.reason


async def test_one_that_starts_others_and_exits_leaves_none_of_them(
    bench: Bench, coordinator: Coordinator, trainer: Script
) -> None:
    bench.set(python=trainer(HIDES))
    attempt = coordinator.offer(job_spec())
    async with bench.agent():
        await coordinator.told("complete")
        left = children(coordinator.logs[attempt])
        assert len(left) == 2
        await until(lambda: not any(map(is_running, left)))


async def test_one_that_is_stopped_leaves_none_either(
    bench: Bench, coordinator: Coordinator, trainer: Script
) -> None:
    bench.set(python=trainer(HIDES + WAITS.replace("os._exit(75)", "None")), grace=0.1)
    attempt = coordinator.offer(job_spec())
    async with bench.agent():
        await has_printed(coordinator, attempt, b"ready")
        await coordinator.push_stop(attempt, "cancelled")
        [released] = await coordinator.told("release")
        left = children(coordinator.logs[attempt])
        assert len(left) == 2
        await until(lambda: not any(map(is_running, left)))
    assert isinstance(released, ReleaseRequest)
    assert released.reason is ReleaseReason.STOPPED


async def test_a_drain_waits_for_an_upload_as_long_as_that_moves(
    bench: Bench, coordinator: Coordinator, trainer: Script
) -> None:
    bench.set(python=trainer(TRAINS))
    bench.timing = dataclasses.replace(bench.timing, farewell=0.3)
    coordinator.problems["upload"] = [problem(507, Code.STORAGE_FULL)] * 10_000
    coordinator.offer(job_spec())
    async with bench.agent() as agent:
        await until(lambda: [folder for folder in bench.attempts() if (folder / "bundle.tar.zst").exists()])
        agent.on_signal()
        for _ in range(30):
            agent._uplink.moved = asyncio.get_running_loop().time()
            await asyncio.wait([bench.running], timeout=0.03)
        assert not bench.running.done()
        coordinator.problems.clear()
        await coordinator.told("complete")
