"""All logs of a host: their turns, their budget, and what happens when their disk is full."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from fleet_agent.disk import can_punch
from fleet_agent.spool import HEAD_BYTES, TAIL_BYTES, Spool
from fleet_agent.spools import SpoolDisk, Spools
from fleet_protocol.ids import new_attempt_id
from tests.agent.conftest import QUICK
from tests.agent.disks import fill, mounted
from tests.agent.test_spool import told, with_holes

MIB = 1 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """16 MiB, and nobody else on it."""
    with mounted(tmp_path / "disk", "tmpfs", "-o", "size=16m") as folder:
        yield folder


def printed(path: Path, size: int, seed: int = 0) -> Spool:
    path.write_bytes(bytes(range(1 + seed, 241 + seed)) * (size // 240 + 1))
    os.truncate(path, size)
    return Spool(new_attempt_id(), path)


def used(*spools: Spool) -> int:
    return sum(spool.allocated for spool in spools)


def test_logs_stay_within_their_budget_while_nobody_takes_them(tmp_path: Path):
    if not can_punch(tmp_path):
        pytest.skip("this file system cannot give parts of a file back")
    large, small = printed(tmp_path / "a", 9 * MIB), printed(tmp_path / "b", MIB)
    before = {spool: path.read_bytes() for spool, path in ((large, tmp_path / "a"), (small, tmp_path / "b"))}
    caring = SpoolDisk(tmp_path, 6 * MIB)
    with structlog.testing.capture_logs() as said:
        for _ in range(3):
            caring.care([large, small])
    assert 5 * MIB <= used(large, small) <= 6 * MIB  # no more is given up than has to be
    assert [line["action"] for line in said] == ["log_dropped"]
    assert told(small) == (before[small], [])  # the noisy one pays
    log, holes = told(large)
    assert [start for start, _ in holes] == [HEAD_BYTES]
    assert log == with_holes(before[large], holes)


def test_a_budget_too_small_for_every_beginning_keeps_every_end(tmp_path: Path):
    if not can_punch(tmp_path):
        pytest.skip("this file system cannot give parts of a file back")
    spools = [printed(tmp_path / str(number), 3 * MIB) for number in range(4)]
    SpoolDisk(tmp_path, 5 * MIB).care(spools)
    assert used(*spools) <= 5 * MIB
    for spool in spools:
        log, _ = told(spool)
        assert log[-TAIL_BYTES:] == (tmp_path / "0").read_bytes()[-TAIL_BYTES:]


def test_what_is_acknowledged_goes_first_and_no_byte_is_lost(tmp_path: Path):
    if not can_punch(tmp_path):
        pytest.skip("this file system cannot give parts of a file back")
    spool = printed(tmp_path / "log", 8 * MIB)
    spool.acknowledge(6 * MIB)
    SpoolDisk(tmp_path, 4 * MIB).care([spool])
    assert used(spool) <= 2 * MIB
    assert not spool.is_incomplete
    assert told(spool, 6 * MIB)[1] == []


def test_the_budget_is_a_tenth_of_a_small_disk_and_the_reserve_a_part_of_it(disk: Path):
    caring = SpoolDisk(disk)
    assert caring.reserve.size == 16 * MIB // 80
    spool = printed(disk / "log", 5 * MIB)
    caring.care([spool])
    assert used(spool) <= 16 * MIB // 10


def test_a_full_disk_is_given_the_reserve_which_is_taken_again_later(disk: Path):
    caring = SpoolDisk(disk, 8 * MIB)
    caring.care([])
    assert caring.reserve.is_held
    assert not caring.reserve.is_needed
    caring.reserve.take()
    fill(disk / "checkpoint")
    with pytest.raises(OSError, match="bytes are free"):  # nobody asks for work on such a disk
        caring.reserve.take()
    with pytest.raises(OSError, match="No space left"):
        (disk / "result").write_bytes(bytes(100_000))
    with structlog.testing.capture_logs() as said:
        caring.care([])
        caring.care([])
    assert [line["action"] for line in said] == ["disk_full"]
    (disk / "result").write_bytes(bytes(100_000))
    assert caring.reserve.is_needed
    with pytest.raises(OSError, match="bytes are free"):
        caring.reserve.take()
    (disk / "checkpoint").unlink()
    caring.care([])
    assert caring.reserve.is_held
    assert not caring.reserve.is_needed


def test_a_reserve_outlives_its_agent(disk: Path):
    first = SpoolDisk(disk, 8 * MIB).reserve
    first.take()
    assert SpoolDisk(disk, 8 * MIB).reserve.is_held
    assert not SpoolDisk(disk, 4 * MIB).reserve.is_held  # another size: it is taken anew


def test_a_disk_that_others_fill_gets_the_logs_room_before_the_reserve(disk: Path):
    """So that a trainer's next write succeeds: a log's unsent middle is worth less than a training."""
    caring = SpoolDisk(disk, 8 * MIB)
    caring.care([])
    spool = printed(disk / "log", 6 * MIB)
    with (disk / "checkpoint").open("wb") as file:
        file.write(bytes(caring.reserve.free - MIB // 2))
    caring.care([spool])
    assert caring.reserve.is_held
    assert caring.reserve.free >= caring.reserve.size
    assert used(spool) >= 5 * MIB


def test_where_nothing_can_be_given_back_it_is_said_once(tmp_path: Path):
    with mounted(tmp_path / "disk", "ramfs") as folder:
        caring = SpoolDisk(folder, MIB)
        spool = printed(folder / "log", 4 * MIB)
        with structlog.testing.capture_logs() as said:
            for _ in range(3):
                caring.care([spool])
        assert [line["action"] for line in said] == ["logs_kept_whole"]
        assert told(spool)[1] == []
        assert SpoolDisk(folder).reserve.size == 64 * MIB  # it does not say how large it is


# Turns


@pytest.fixture
async def spools(tmp_path: Path) -> Spools:
    return Spools(SpoolDisk(tmp_path, 16 * MIB), QUICK)


async def test_every_log_has_its_turn(spools: Spools, tmp_path: Path):
    mine = []
    for name in "abc":
        (tmp_path / name).write_bytes(bytes(9 * MIB))
        mine.append(spools.follow(new_attempt_id(), tmp_path / name))
    turns = []
    for _ in range(3):
        spool = await spools.next()
        turns.append(spool)
        spools.acknowledge(spool, 0)  # there is more: it has to wait until the others had theirs
        spools.stir(spool)
    assert turns == mine
    assert [await spools.next() for _ in range(3)] == mine


async def test_nothing_to_send_is_no_turn(spools: Spools, tmp_path: Path):
    silent = spools.follow(new_attempt_id(), tmp_path / "silent")
    (tmp_path / "done").write_bytes(b"all there")
    done = spools.follow(new_attempt_id(), tmp_path / "done")
    spools.acknowledge(done, 9)
    spools.close(done)
    spools.close(silent)
    (tmp_path / "gone").write_bytes(b"not wanted any more")
    gone = spools.follow(new_attempt_id(), tmp_path / "gone")
    spools.forget(gone)
    spools.acknowledge(gone, 3)  # a late word
    (tmp_path / "log").write_bytes(b"x")
    wanted = spools.follow(new_attempt_id(), tmp_path / "log")
    assert {await spools.next(), await spools.next()} == {done, wanted}
    waiting = asyncio.ensure_future(spools.next())
    await asyncio.sleep(0)
    assert not waiting.done()
    waiting.cancel()
