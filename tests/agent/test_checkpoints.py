from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fleet_agent import checkpoints
from fleet_agent.bundle import Bundle, make_bundle
from fleet_agent.checkpoints import Checkpoints
from fleet_agent.state import AttemptFolder, Record
from fleet_agent.threads import Watch
from fleet_agent.uplink import Uplink
from fleet_protocol.errors import Code, Problem
from fleet_protocol.ids import Sha256, new_attempt_id, new_worker_id
from fleet_protocol.workers import CheckpointRequest
from tests.agent.coordinator import TOKEN, Coordinator, job_spec


@pytest.fixture
async def uplink(coordinator: Coordinator) -> AsyncIterator[Uplink]:
    made = Uplink(coordinator.url, lambda: TOKEN, retry_ceiling=0.05)
    yield made
    await made.close()


class Trained:
    """An attempt's folder, whose trainer is played by the test."""

    def __init__(self, path: Path, uplink: Uplink, began_from: Sha256 | None = None) -> None:
        record = Record(
            job=job_spec(), attempt=new_attempt_id(), number=1, boot_id=None, checkpoint=began_from
        )
        self.folder = AttemptFolder(path, record)
        self.folder["checkpoint"].mkdir(exist_ok=True)
        self.file = self.folder["checkpoint"] / "step"
        self.checkpoints = Checkpoints(self.folder, uplink, new_worker_id(), lambda: 0, quiet=60.0)


@pytest.fixture
def trained(tmp_path: Path, uplink: Uplink) -> Trained:
    return Trained(tmp_path, uplink)


def told(coordinator: Coordinator) -> list[Sha256]:
    return [body.sha256 for body in coordinator.of("checkpoint") if isinstance(body, CheckpointRequest)]


async def test_only_what_is_new_is_brought(trained: Trained, coordinator: Coordinator) -> None:
    await trained.checkpoints.bring()
    assert not told(coordinator)
    for text in ("1", "1", "22", "22"):
        if not trained.file.exists() or trained.file.read_text() != text:
            trained.file.write_text(text)
        await trained.checkpoints.bring()
    assert len(told(coordinator)) == 2
    assert {*told(coordinator)} == {*coordinator.blobs}


async def test_what_it_began_from_is_not_sent_back(
    trained: Trained, tmp_path: Path, uplink: Uplink, coordinator: Coordinator
) -> None:
    trained.file.write_text("1")
    first = make_bundle(trained.folder["checkpoint"], tmp_path / "first").sha256
    await Trained(tmp_path, uplink, began_from=first).checkpoints.bring()
    assert not told(coordinator)


async def test_files_that_change_while_they_are_packed_are_no_checkpoint(
    trained: Trained, coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained.file.write_text("1")

    def meanwhile(folder: Path, target: Path, watch: Watch) -> Bundle:
        bundle = make_bundle(folder, target, watch)
        trained.file.write_text("22")
        return bundle

    monkeypatch.setattr(checkpoints, "make_bundle", meanwhile)  # the only way to be there at that moment
    await trained.checkpoints.bring()
    assert not told(coordinator)
    monkeypatch.undo()
    await trained.checkpoints.bring()
    assert len(told(coordinator)) == 1


@pytest.mark.parametrize(
    ("age", "is_whole", "brought"), [(0, True, 1), (0, False, 0), (3600, False, 1), (3600, True, 1)]
)
async def test_a_trainer_that_was_cut_short_may_have_left_half_a_file(
    trained: Trained, coordinator: Coordinator, age: int, is_whole: bool, brought: int
) -> None:
    trained.file.write_text("1")
    written = trained.file.stat().st_mtime - age
    os.utime(trained.file, (written, written))
    await trained.checkpoints.bring_last(is_whole=is_whole)
    assert len(told(coordinator)) == brought


@pytest.mark.parametrize("kind", ["upload", "checkpoint"])
async def test_a_refused_checkpoint_is_tried_again_next_time(
    trained: Trained, coordinator: Coordinator, kind: str
) -> None:
    trained.file.write_text("1")
    no = Problem(title="no", status=413, detail="too large", code=Code.TOO_LARGE)
    coordinator.problems[kind].append(no)
    await trained.checkpoints.bring()
    before = len(told(coordinator))
    await trained.checkpoints.bring()
    assert len(told(coordinator)) == before + 1


async def test_what_has_no_place_in_an_archive_costs_a_checkpoint_and_not_the_training(
    trained: Trained, coordinator: Coordinator
) -> None:
    trained.file.write_text("1")
    link = trained.folder["checkpoint"] / "last"
    link.symlink_to("/etc/passwd")
    await trained.checkpoints.bring()
    assert not told(coordinator)
    assert not trained.folder["checkpoint.tar.zst"].exists()
    link.unlink()
    link.symlink_to(trained.file.name)  # as Lightning's last.ckpt
    await trained.checkpoints.bring()
    assert len(told(coordinator)) == 1
