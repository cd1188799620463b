"""Trainers that fill their disk, or print while nobody listens: each ends in a truthful, readable state."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from fleet_agent.spool import HEAD_BYTES, TAIL_BYTES
from fleet_protocol.states import FailureKind
from fleet_protocol.workers import CompleteRequest, FailRequest
from tests.agent.conftest import Bench, until
from tests.agent.coordinator import Coordinator, job_spec
from tests.agent.disks import mounted

Script = Callable[[str], str]
MIB = 1 << 20

FILLS_WITH_OUTPUT = """
print("epoch 1", flush=True)
with open(os.environ["FLEET_OUTPUT_DIR"] + "/model.bin", "wb", buffering=0) as file:
    while True: file.write(bytes(65536))
"""
FILLS_WITH_OUTPUT_AND_SAYS_NOTHING = """
print("epoch 1", flush=True)
try:
    with open(os.environ["FLEET_OUTPUT_DIR"] + "/model.bin", "wb", buffering=0) as file:
        while file.write(bytes(4096)): pass
except OSError:
    os._exit(1)
"""
PRINTS_MUCH = """
for number in range(40):
    os.write(1, bytes([97 + number % 26]) * (256 << 10))
    time.sleep(0.02)
go = pathlib.Path(os.environ["FLEET_DATA"]) / "go"
pathlib.Path(os.environ["FLEET_DATA"], "printed").touch()
while not go.exists(): time.sleep(0.01)
print("the last line", flush=True)
"""


@pytest.fixture
def small(bench: Bench, tmp_path: Path) -> Iterator[Bench]:
    """Its state folder is on a disk of 16 MiB."""
    with mounted(tmp_path / "disk", "tmpfs", "-o", "size=16m") as folder:
        bench.set(state=folder / "state", data=tmp_path)
        yield bench


@pytest.mark.parametrize("script", [FILLS_WITH_OUTPUT, FILLS_WITH_OUTPUT_AND_SAYS_NOTHING])
async def test_a_trainer_that_fills_the_disk_is_an_infrastructure_loss(
    small: Bench, coordinator: Coordinator, trainer: Script, script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fleet_agent.runner.DISK_RETRY_SECONDS", 0.05)
    small.set(python=trainer(script))
    attempt = coordinator.offer(job_spec())
    async with small.agent():
        [failed] = await coordinator.told("fail")
        await until(lambda: not small.attempts())
        # its output went with it, so there is room again and work is asked for
        claims = len(coordinator.of("claim"))
        await coordinator.told("claim", claims + 1)
    assert isinstance(failed, FailRequest)
    assert failed.kind is FailureKind.INFRASTRUCTURE
    assert failed.reason.startswith("the disk of this machine is full")
    assert failed.log_bytes == len(coordinator.logs[attempt])
    assert coordinator.logs[attempt].startswith(b"epoch 1\n")


async def test_a_log_that_nobody_takes_keeps_its_budget_and_its_end(
    bench: Bench, coordinator: Coordinator, trainer: Script, tmp_path: Path
) -> None:
    """The coordinator is away while 10 MiB are printed into a budget of 4; the trainer never notices."""
    bench.set(python=trainer(PRINTS_MUCH), data=tmp_path, spool_gib=4 / 1024)
    attempt = coordinator.offer(job_spec())
    async with bench.agent():
        await coordinator.told("start")
        await coordinator.stop()
        await until(lambda: (tmp_path / "printed").exists())
        [folder] = bench.attempts()
        await until(lambda: (folder / "log").stat().st_blocks * 512 <= 4 * MIB)
        assert (folder / "log").stat().st_size == 10 * MIB
        (tmp_path / "go").touch()
        await until(lambda: (folder / "exit").exists())
        await coordinator.start()
        [done] = await coordinator.told("complete")
        await until(lambda: not bench.attempts())
    assert isinstance(done, CompleteRequest)
    printed = b"".join(bytes([97 + number % 26]) * (256 << 10) for number in range(40)) + b"the last line\n"
    log, holes = coordinator.logs[attempt], coordinator.holes[attempt]
    assert len(log) == done.log_bytes == len(printed)
    assert holes
    begin, end = holes[0][0], holes[-1][1]
    assert begin >= HEAD_BYTES
    assert end <= len(printed) - TAIL_BYTES
    for start, stop in holes:
        assert not any(log[start:stop])
        log[start:stop] = printed[start:stop]
    assert log == printed  # every byte is there, or in a hole that was declared


PRINTS_NOISE = """
print("ready", flush=True)
for _ in range(80): os.write(1, os.urandom(256 << 10))
go = pathlib.Path(os.environ["FLEET_DATA"]) / "go"
while not go.exists(): time.sleep(0.01)
"""


async def test_heartbeats_and_the_result_do_not_wait_for_a_log_that_is_stuck(
    bench: Bench, coordinator: Coordinator, trainer: Script, tmp_path: Path
) -> None:
    bench.set(python=trainer(PRINTS_NOISE), data=tmp_path)
    attempt = coordinator.offer(job_spec())
    async with bench.agent():
        await coordinator.until(lambda: b"ready" in coordinator.logs[attempt])
        coordinator.is_deaf = True
        [folder] = bench.attempts()
        await until(lambda: (folder / "log").stat().st_size > 20 * MIB)
        beats = len(coordinator.of("heartbeat"))
        await coordinator.told("heartbeat", beats + 5)
        (tmp_path / "go").touch()
        [done] = await coordinator.told("complete")
        assert isinstance(done, CompleteRequest)
        assert len(coordinator.logs[attempt]) < (done.log_bytes or 0)
        coordinator.is_deaf = False
        await coordinator.until(lambda: len(coordinator.logs[attempt]) == done.log_bytes)


async def test_no_work_is_asked_for_without_room_for_last_words(
    small: Bench, coordinator: Coordinator
) -> None:
    filler = small.settings.state.parent / "of somebody else"
    filler.write_bytes(bytes(15 * MIB))
    small.set(spool_gib=8 / 1024)  # of which an eighth is more than what is left
    with capture_logs() as said:
        async with small.agent():
            await until(lambda: any(line["action"] == "claims_paused" for line in said))
            assert coordinator.of("claim") == []
            filler.unlink()
            await coordinator.told("claim")
