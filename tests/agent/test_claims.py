"""Asking for work on a disk that is full: the folder is real, only writes into it fail."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from fleet_agent.state import StateFolder
from fleet_protocol.errors import Code, Problem
from fleet_protocol.ids import AttemptId
from fleet_protocol.states import ReleaseReason
from fleet_protocol.workers import ClaimRequest, ReleaseRequest
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


async def test_what_ended_here_is_not_begun_again_by_a_late_answer_to_its_claim(
    bench: Bench, coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.set(python="/no/such/python")
    coordinator.offer(job_spec())
    settle, was_over = StateFolder.settle_claim, []

    def on_a_full_disk(state: StateFolder, granted: AttemptId | None = None) -> None:
        if granted is not None:
            was_over.append(not bench.attempts())
            if was_over.count(True) < 2:  # so the answer comes once more after the attempt is over and gone
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        settle(state, granted)

    monkeypatch.setattr(StateFolder, "settle_claim", on_a_full_disk)

    def claims() -> set[str]:
        return {body.claim_id for body in coordinator.of("claim") if isinstance(body, ClaimRequest)}

    async with bench.agent():
        await coordinator.until(lambda: len(claims()) == 2)
    assert was_over.count(True) == 2
    assert len(coordinator.of("fail")) == 1
