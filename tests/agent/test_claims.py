"""Asking for work on a disk that is full: the folder is real, only writes into it fail."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from fleet_protocol.errors import Code, Problem
from fleet_protocol.states import ReleaseReason
from fleet_protocol.workers import ReleaseRequest
from tests.agent.conftest import Bench, until
from tests.agent.coordinator import Coordinator, job_spec


class Disk:
    """Counts the writes that it refused."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_full_for = ""
        """A file name's beginning."""
        self.refused = 0
        self._write = Path.write_text
        monkeypatch.setattr(Path, "write_text", lambda path, text, **how: self.write(path, text))

    def write(self, path: Path, text: str) -> None:
        self._write(path, text)
        if self.is_full_for and path.name.startswith(self.is_full_for):
            self.refused += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


async def test_a_full_disk_asks_for_no_work_and_says_so_once(
    bench: Bench, coordinator: Coordinator, disk: Disk
) -> None:
    bench.set(python="/no/such/python")
    coordinator.offer(job_spec())
    disk.is_full_for = "claim"
    with capture_logs() as said:
        async with bench.agent():
            await until(lambda: disk.refused > 3)
            assert coordinator.of("claim") == []
            assert not (bench.settings.state / "claim.tmp").exists()
            disk.is_full_for = ""
            await coordinator.told("fail")
    words = [line["action"] for line in said if line["action"].startswith("claims_")]
    assert words == ["claims_paused", "claims_resumed"]


async def test_a_granted_job_that_cannot_be_written_down_is_given_back_at_once(
    bench: Bench, coordinator: Coordinator, disk: Disk
) -> None:
    bench.set(python="/no/such/python")
    attempt = coordinator.offer(job_spec())
    coordinator.problems["release"] = [Problem(title="no", status=503, detail="busy", code=Code.BUSY)]
    disk.is_full_for = "attempt.json"
    async with bench.agent():
        [released] = await coordinator.told("release")
        assert len(coordinator.of("refused release")) == 1
        disk.is_full_for = ""
        coordinator.offer(job_spec())
        await coordinator.told("fail")
    assert isinstance(released, ReleaseRequest)
    assert (released.attempt, released.reason) == (attempt, ReleaseReason.NOT_STARTED)
    assert bench.attempts() == []
