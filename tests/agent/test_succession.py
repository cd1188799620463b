"""Agents that follow one another in one process, on one folder, or on copies of it; and machines that slept."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from backports import zstd

from fleet_agent.errors import AgentError
from fleet_agent.state import Record
from fleet_protocol.errors import Code
from fleet_protocol.states import FailureKind
from fleet_protocol.workers import CompleteRequest, FailRequest, HelloRequest, ReleaseRequest
from tests.agent.conftest import Bench, Hand, is_running, until
from tests.agent.coordinator import Coordinator, job_spec
from tests.agent.test_cli import program
from tests.agent.test_life import TRAINS, WAITS, WAITS_FOR_FILE, has_printed, problem
from tests.agent.test_limits import process_of
from tests.agent.test_process import children

Script = Callable[[str], str]

# An agent that "dies" here leaves its trainer behind in this very process, which Python finds untidy.
pytestmark = pytest.mark.filterwarnings("ignore:.*Popen.__del__:pytest.PytestUnraisableExceptionWarning")

COUNTS = """
print("ready", os.getpid(), flush=True)
go = pathlib.Path(os.environ["FLEET_DATA"]) / "go"
number = 0
while not go.exists():
    print(number := number + 1, flush=True)
    time.sleep(0.001)
print("last", number, flush=True)
"""


async def test_sighup_starts_the_agent_anew_and_its_trainers_go_on(
    coordinator: Coordinator, environment: dict[str, str], tmp_path: Path, trainer: Script
) -> None:
    attempt = coordinator.offer(job_spec())
    flags = ["run", "--server", coordinator.url, "--state", str(tmp_path / "s"), "--name", "cli"]
    flags += ["--data", str(tmp_path), "--python", trainer(COUNTS)]
    with program(flags, environment, tmp_path / "log") as process:
        await has_printed(coordinator, attempt, b"\n100\n")
        child = int(coordinator.logs[attempt].split()[1])
        for life in (2, 3):
            process.send_signal(signal.SIGHUP)
            await coordinator.told("hello", life)
            await coordinator.told("heartbeat")
        hellos = [body for body in coordinator.of("hello") if isinstance(body, HelloRequest)]
        assert len({body.incarnation for body in hellos}) == 3
        assert len({body.worker for body in hellos}) == 1
        assert [[local.running for local in body.attempts] for body in hellos] == [[], [True], [True]]
        assert process.poll() is None
        assert is_running(child)
        (tmp_path / "go").touch()
        [done] = await coordinator.told("complete")
        await until(lambda: not list((tmp_path / "s" / "attempts").iterdir()))
        assert children(process.pid) == []  # not even a zombie
        process.send_signal(signal.SIGTERM)
        await until(lambda: process.poll() is not None)
        assert process.returncode == 0
    assert isinstance(done, CompleteRequest)
    _, *numbers, last = coordinator.logs[attempt].decode().splitlines()
    assert numbers == [str(number + 1) for number in range(len(numbers))]
    assert last == f"last {len(numbers)}"
    assert "Another agent" not in (tmp_path / "log").read_text()


async def test_a_sigterm_right_after_a_sighup_is_not_lost(
    coordinator: Coordinator, environment: dict[str, str], tmp_path: Path, trainer: Script
) -> None:
    attempt = coordinator.offer(job_spec())
    flags = ["run", "--server", coordinator.url, "--state", str(tmp_path / "s"), "--name", "cli", "--python"]
    with program([*flags, trainer(WAITS)], environment, tmp_path / "log") as process:
        await has_printed(coordinator, attempt, b"ready")
        process.send_signal(signal.SIGHUP)
        await until(lambda: b"starting_anew" in (tmp_path / "log").read_bytes())
        process.send_signal(signal.SIGTERM)
        await until(lambda: process.poll() is not None)
        assert process.returncode == 0
    [released] = coordinator.of("release")
    assert isinstance(released, ReleaseRequest)
    assert released.reason == "drained"


async def test_an_exclusive_trainer_ends_by_itself_when_its_agent_is_gone_for_good(
    coordinator: Coordinator, environment: dict[str, str], tmp_path: Path, trainer: Script
) -> None:
    attempt = coordinator.offer(job_spec(exclusive=True, lease=3.0))
    coordinator.heartbeat_seconds = 0.5
    flags = ["run", "--server", coordinator.url, "--state", str(tmp_path / "s"), "--name", "cli", "--python"]
    script = trainer(WAITS)
    with program([*flags, script], environment, tmp_path / "log") as process:
        await has_printed(coordinator, attempt, b"ready")
        await coordinator.told("heartbeat", 8)  # longer than one lease: it goes on while it is renewed
        child = int(coordinator.logs[attempt].split()[1])
        assert is_running(child)
        process.kill()
        await until(lambda: not is_running(child))
    with program([*flags, script], environment, tmp_path / "log"):
        [released] = await coordinator.told("release")
    assert isinstance(released, ReleaseRequest)
    assert released.detail == "exclusive, and its lease of 3 s ran out while no agent was there to renew it"


async def test_a_machine_that_woke_up_is_heard_at_once(
    bench: Bench, coordinator: Coordinator, trainer: Script, hand: Hand, tmp_path: Path
) -> None:
    coordinator.heartbeat_seconds = 1000.0
    bench.set(python=trainer(WAITS_FOR_FILE), data=tmp_path)
    attempt = coordinator.offer(job_spec())
    async with bench.agent():
        await has_printed(coordinator, attempt, b"started")
        assert coordinator.of("heartbeat") == []
        hand.now += 3600
        await coordinator.told("heartbeat")
        (tmp_path / "go").touch()
        await coordinator.told("complete")


async def test_after_a_restart_of_the_machine_what_ran_is_over_at_once(
    bench: Bench, coordinator: Coordinator, trainer: Script
) -> None:
    bench.set(python=trainer(WAITS))
    attempt = coordinator.offer(job_spec())
    async with bench.agent(dies=True):
        child = await process_of(coordinator, attempt)
    [folder] = bench.attempts()
    os.killpg(int((folder / "pid").read_text()), signal.SIGKILL)
    await until(lambda: not is_running(child))
    lives_before_restart(folder)
    # The coordinator takes it for another, as long as it seems live; who is not known yet reports nothing.
    coordinator.problems["hello"] = [problem(409, Code.DUPLICATE_IDENTITY)] * 10
    bench.timing = dataclasses.replace(bench.timing, log_patience=0.0)
    async with bench.agent():
        await coordinator.told("hello", 12)
        [failed] = await coordinator.told("fail")
        assert [kind for kind, _ in coordinator.calls if kind in ("hello", "fail")][-2:] == ["hello", "fail"]
    assert isinstance(failed, FailRequest)
    assert failed.kind is FailureKind.INFRASTRUCTURE
    assert failed.reason == "the trainer is gone without an exit status: the machine restarted"


@pytest.mark.parametrize("is_safe", [True, False])
async def test_a_finished_result_outlives_the_machine_only_where_it_was_safe_on_its_disk(
    bench: Bench, coordinator: Coordinator, trainer: Script, *, is_safe: bool
) -> None:
    bench.set(python=trainer(TRAINS))
    coordinator.problems["upload"] = [problem(503, Code.BUSY)] * 10_000
    coordinator.offer(job_spec())
    async with bench.agent(dies=True):
        await until(lambda: [path for path in bench.attempts() if (path / "result.json").exists()])
    [folder] = bench.attempts()
    lives_before_restart(folder)
    if not is_safe:
        (folder / "result.json").unlink()
    for path in folder.glob("output/*"):
        path.write_bytes(b"")  # as a cut of power leaves what was never synced
    coordinator.problems.clear()
    async with bench.agent():
        [told] = await coordinator.told("complete" if is_safe else "fail")
    if is_safe:
        assert isinstance(told, CompleteRequest)
        [bundle] = coordinator.artifacts.values()
        assert b"weights" in zstd.decompress(bundle)
    else:
        assert isinstance(told, FailRequest)
        assert (told.kind, told.exit_code) == (FailureKind.INFRASTRUCTURE, 0)
        assert coordinator.artifacts == {}


def lives_before_restart(folder: Path) -> None:
    """What is in it is of an earlier life of this machine."""
    record = Record.model_validate_json((folder / "attempt.json").read_bytes())
    (folder / "attempt.json").write_text(record.model_copy(update={"boot_id": "before"}).model_dump_json())


async def test_who_has_a_twin_for_good_is_refused_with_a_sentence(
    bench: Bench, coordinator: Coordinator
) -> None:
    bench.timing = dataclasses.replace(bench.timing, twin_patience=0.2)
    coordinator.problems["hello"] = [problem(409, Code.DUPLICATE_IDENTITY)] * 10_000
    with pytest.raises(ExceptionGroup) as raised:
        async with bench.agent():
            await asyncio.wait([bench.running])
    assert raised.group_contains(AgentError, match="refuses this agent: the test says no")
    assert len(coordinator.of("hello")) > 1


async def test_a_copied_folder_becomes_another_worker_and_touches_nothing_of_the_first(
    coordinator: Coordinator, environment: dict[str, str], tmp_path: Path, trainer: Script
) -> None:
    attempt = coordinator.offer(job_spec())
    flags = ["run", "--server", coordinator.url, "--python", trainer(WAITS), "--name"]
    with program([*flags, "first", "--state", str(tmp_path / "s")], environment, tmp_path / "log"):
        await has_printed(coordinator, attempt, b"ready")
        shutil.copytree(tmp_path / "s", tmp_path / "copy")
        coordinator.problems["hello"] = [problem(409, Code.DUPLICATE_IDENTITY)]
        with program([*flags, "copy", "--state", str(tmp_path / "copy")], environment, tmp_path / "log2"):
            first, refused, copy = await coordinator.told("hello", 3)
            assert isinstance(first, HelloRequest)
            assert isinstance(refused, HelloRequest)
            assert isinstance(copy, HelloRequest)
            await coordinator.until(
                lambda: any(getattr(body, "worker", "") == copy.worker for body in coordinator.of("claim"))
            )
        assert (first.moved, refused.moved, copy.moved) == (False, True, False)
        assert first.worker == refused.worker != copy.worker
        assert copy.attempts == ()
        assert coordinator.of("fail") == coordinator.of("release") == []
        os.kill(await process_of(coordinator, attempt), signal.SIGTERM)
        await coordinator.told("fail")  # by the first, whose it is
    assert (tmp_path / "copy" / "kept" / attempt).is_dir()
    assert "becomes another worker" in (tmp_path / "log2").read_text()


async def test_a_moved_folder_keeps_its_identity_and_hands_in_what_it_owes(
    bench: Bench, coordinator: Coordinator, trainer: Script, tmp_path: Path
) -> None:
    bench.set(python=trainer(TRAINS))
    coordinator.offer(job_spec())
    coordinator.problems["upload"] = [problem(507, Code.STORAGE_FULL)] * 10_000
    async with bench.agent(dies=True):
        await until(lambda: [folder for folder in bench.attempts() if (folder / "bundle.tar.zst").exists()])
    shutil.copytree(bench.settings.state, tmp_path / "moved")
    shutil.rmtree(bench.settings.state)
    bench.set(state=tmp_path / "moved")
    coordinator.problems.clear()
    for moved in (True, False):
        async with bench.agent():
            hello = (await coordinator.told("hello", 2 if moved else 3))[-1]
            await coordinator.told("complete")
        assert isinstance(hello, HelloRequest)
        assert hello.moved is moved
    assert len({body.worker for body in coordinator.of("hello") if isinstance(body, HelloRequest)}) == 1
