"""Timeouts and leases: trainers that are ended by their agent, whatever happened to it and to the coordinator."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fleet_agent.limits import Limits, since_boot
from fleet_agent.state import AttemptFolder, Record, Times
from fleet_protocol.errors import Code
from fleet_protocol.ids import AttemptId, new_attempt_id
from fleet_protocol.states import FailureKind, ReleaseReason, Verdict
from fleet_protocol.workers import FailRequest, HeartbeatAnswer, ReleaseRequest
from tests.agent.conftest import Bench, Hand, is_running, until
from tests.agent.coordinator import Coordinator, job_spec
from tests.agent.test_life import TRAINS, WAITS, WAITS_FOR_FILE, has_printed, problem

Script = Callable[[str], str]

# An agent that "dies" here leaves its trainer behind in this very process, which Python finds untidy.
pytestmark = pytest.mark.filterwarnings("ignore:.*Popen.__del__:pytest.PytestUnraisableExceptionWarning")

LEASE = 600.0  # what the coordinator of these tests answers


def limits(folder: Path, hand: Hand, grace: float = 30.0, **more: object) -> Limits:
    spec = job_spec(**more)  # type: ignore[arg-type]  # whatever the test is about
    record = Record(job=spec, attempt=new_attempt_id(), number=1, boot_id=None, lease_seconds=LEASE)
    return Limits(AttemptFolder(folder, record), hand, grace)


async def process_of(coordinator: Coordinator, attempt: AttemptId) -> int:
    await has_printed(coordinator, attempt, b"ready")
    return int(coordinator.logs[attempt].split()[1])


def test_the_clock_goes_on_by_itself():
    assert since_boot() <= since_boot()
    if hasattr(time, "CLOCK_BOOTTIME"):
        assert since_boot() >= time.monotonic() - 1  # it has what monotonic left out while the machine slept


def test_a_timeout_counts_from_when_the_trainer_began(tmp_path: Path):
    hand = Hand()
    mine = limits(tmp_path, hand, timeout=100.0)
    hand.now += 1000
    mine.begin()
    hand.now += 99
    assert mine.overdue() is None
    hand.now += 1
    order = mine.overdue()
    assert order is not None
    assert (order.is_timeout, order.detail) == (True, "ran longer than its timeout of 100 s")
    assert not mine.is_out_of_lease  # silence ends only an exclusive one


def test_an_exclusive_trainer_is_asked_in_time_and_gone_before_the_lease_is(tmp_path: Path):
    hand = Hand()
    mine = limits(tmp_path, hand, exclusive=True)
    for after, asked, killed in ((500, False, False), (510, True, False), (540, True, True)):
        hand.now = 5000 + after
        assert ((mine.overdue() is not None), mine.is_out_of_lease) == (asked, killed), after
    mine.renew(5000 + 400)
    assert mine.overdue() is None


def test_the_jobs_own_lease_counts_and_a_short_one_shortens_the_grace(tmp_path: Path):
    hand = Hand()
    mine = limits(tmp_path, hand, exclusive=True, lease=60.0)
    mine.renew(5000, LEASE)
    hand.now += 41
    assert mine.overdue() is None
    hand.now += 1
    assert mine.overdue() is not None
    hand.now += 12
    assert mine.is_out_of_lease


def test_nothing_that_was_heard_before_moves_the_lease_back(tmp_path: Path):
    hand = Hand()
    mine = limits(tmp_path, hand, exclusive=True)
    mine.renew(5400)
    mine.renew(5100)
    assert AttemptFolder(tmp_path, mine._folder.record).times() == Times(
        began=5000, heard=5400, lease_seconds=LEASE
    )


async def test_a_trainer_that_runs_too_long_ends_as_an_error(
    bench: Bench, coordinator: Coordinator, trainer: Script
) -> None:
    bench.set(python=trainer(WAITS))
    attempt = coordinator.offer(job_spec(timeout=0.5))
    async with bench.agent():
        [failed] = await coordinator.told("fail")
        await has_printed(coordinator, attempt, b"checkpoint\n")  # it was asked, not killed
    assert isinstance(failed, FailRequest)
    assert (failed.kind, failed.reason) == (FailureKind.ERROR, "ran longer than its timeout of 0.5 s")
    assert failed.exit_code == 75
    assert coordinator.of("release") == []


async def test_one_that_does_not_listen_is_killed_after_its_grace(
    bench: Bench, coordinator: Coordinator, trainer: Script, hand: Hand
) -> None:
    bench.set(python=trainer(WAITS.replace("os._exit(75)", "None")), grace=0.2)
    attempt = coordinator.offer(job_spec(timeout=100.0))
    async with bench.agent():
        child = await process_of(coordinator, attempt)
        hand.now += 100
        [failed] = await coordinator.told("fail")
    assert isinstance(failed, FailRequest)
    assert failed.reason == "ran longer than its timeout of 100 s"
    assert not is_running(child)


async def test_a_result_that_comes_in_the_grace_still_counts(
    bench: Bench, coordinator: Coordinator, trainer: Script, hand: Hand
) -> None:
    bench.set(python=trainer(WAITS.replace("os._exit(75)", "os._exit(0)")))
    attempt = coordinator.offer(job_spec(timeout=100.0))
    async with bench.agent():
        await process_of(coordinator, attempt)
        hand.now += 100
        await coordinator.told("complete")
    assert coordinator.of("fail") == []


@pytest.mark.parametrize("later", [50.0, 5000.0])
async def test_a_timeout_outlives_the_agent(
    bench: Bench, coordinator: Coordinator, trainer: Script, hand: Hand, tmp_path: Path, later: float
) -> None:
    bench.set(python=trainer(WAITS_FOR_FILE), data=tmp_path)
    attempt = coordinator.offer(job_spec(timeout=100.0))
    async with bench.agent(dies=True):
        await has_printed(coordinator, attempt, b"started")
    hand.now += later
    async with bench.agent():
        if later > 100:
            [failed] = await coordinator.told("fail")
            assert isinstance(failed, FailRequest)
            assert failed.reason == "ran longer than its timeout of 100 s"
        else:
            await coordinator.told("hello", 2)
            (tmp_path / "go").touch()
            await coordinator.told("complete")


async def test_an_exclusive_trainer_ends_when_its_lease_runs_out_unheard(
    bench: Bench, coordinator: Coordinator, trainer: Script, hand: Hand
) -> None:
    bench.set(python=trainer(WAITS))
    attempt = coordinator.offer(job_spec(exclusive=True))
    async with bench.agent():
        child = await process_of(coordinator, attempt)
        await coordinator.stop()
        hand.now += LEASE
        await until(lambda: not is_running(child))
        await coordinator.start()
        [released] = await coordinator.told("release")
    assert isinstance(released, ReleaseRequest)
    assert released.reason is ReleaseReason.STOPPED
    assert released.detail == "exclusive, and its lease of 600 s ran out unheard"
    assert coordinator.of("fail") == []


async def test_a_machine_that_slept_through_its_lease_gives_no_grace(
    bench: Bench, coordinator: Coordinator, trainer: Script, hand: Hand
) -> None:
    bench.set(python=trainer(WAITS.replace("os._exit(75)", "None")), grace=1000.0)
    attempt = coordinator.offer(job_spec(exclusive=True))
    async with bench.agent():
        child = await process_of(coordinator, attempt)
        await coordinator.stop()
        hand.now += 10 * LEASE
        await until(lambda: not is_running(child))
        await coordinator.start()
        await coordinator.told("release")


async def test_an_exclusive_trainer_that_is_heard_goes_on_for_ever(
    bench: Bench, coordinator: Coordinator, trainer: Script, hand: Hand, tmp_path: Path
) -> None:
    bench.set(python=trainer(WAITS_FOR_FILE), data=tmp_path)
    attempt = coordinator.offer(job_spec(exclusive=True))
    async with bench.agent():
        await has_printed(coordinator, attempt, b"started")
        for _ in range(5):
            hand.now += LEASE / 2
            # the second of these was sent after the clock moved, and is answered once a third one comes
            await coordinator.told("heartbeat", len(coordinator.of("heartbeat")) + 3)
        (tmp_path / "go").touch()
        await coordinator.told("complete")


async def test_a_lease_that_ran_out_without_the_agent_ends_the_trainer_it_takes_up(
    bench: Bench, coordinator: Coordinator, trainer: Script, hand: Hand
) -> None:
    bench.set(python=trainer(WAITS))
    attempt = coordinator.offer(job_spec(exclusive=True))
    async with bench.agent(dies=True):
        child = await process_of(coordinator, attempt)
    await coordinator.stop()
    hand.now += LEASE
    async with bench.agent():
        await until(lambda: not is_running(child))
        await coordinator.start()
        await coordinator.told("release")


async def test_not_being_known_is_not_being_heard(
    bench: Bench, coordinator: Coordinator, trainer: Script, hand: Hand
) -> None:
    """A coordinator from a backup may hand the job to somebody else."""
    bench.set(python=trainer(WAITS))
    attempt = coordinator.offer(job_spec(exclusive=True))
    coordinator.verdicts[attempt] = HeartbeatAnswer(verdict=Verdict.UNKNOWN)
    async with bench.agent():
        await process_of(coordinator, attempt)
        hand.now += LEASE
        await coordinator.told("release")


async def test_an_exclusive_trainer_begins_only_once_its_start_is_known(
    bench: Bench, coordinator: Coordinator, trainer: Script
) -> None:
    bench.set(python=trainer(TRAINS))
    coordinator.problems["start"] = [problem(503, Code.BUSY)] * 10_000
    coordinator.offer(job_spec(exclusive=True))
    async with bench.agent():
        await coordinator.told("refused start", 3)
        [folder] = bench.attempts()
        assert not (folder / "log").exists()
        coordinator.problems.clear()
        await coordinator.told("complete")


async def test_an_exclusive_trainer_never_begins_where_another_attempt_has_the_job(
    bench: Bench, coordinator: Coordinator, trainer: Script
) -> None:
    bench.set(python=trainer("pathlib.Path('began').touch()"))
    coordinator.problems["start"] = [problem(409, Code.STALE_ATTEMPT)] * 2
    coordinator.offer(job_spec(exclusive=True))
    async with bench.agent():
        [released] = await coordinator.told("release")
    assert isinstance(released, ReleaseRequest)
    assert released.reason is ReleaseReason.NOT_STARTED
    assert len(coordinator.of("refused start")) == 1  # a trainer that ran would have told of it again


async def test_a_drain_does_not_wait_for_a_start_that_nobody_hears(
    bench: Bench, coordinator: Coordinator, trainer: Script
) -> None:
    bench.set(python=trainer(TRAINS))
    coordinator.problems["start"] = [problem(503, Code.BUSY)] * 10_000
    coordinator.offer(job_spec(exclusive=True))
    async with bench.agent():
        await coordinator.told("refused start")
    [released] = coordinator.of("release")
    assert isinstance(released, ReleaseRequest)
    assert released.reason is ReleaseReason.NOT_STARTED
