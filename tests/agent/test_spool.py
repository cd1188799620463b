"""One log on this disk: whatever is given back, offsets stay, and nothing is lost that is not declared."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from fleet_agent.disk import BLOCK_BYTES, can_punch, punch
from fleet_agent.spool import HEAD_BYTES, TAIL_BYTES, Spool
from fleet_protocol.ids import new_attempt_id
from fleet_protocol.logs import MAX_CHUNK_BYTES, Hole
from tests.agent.disks import mounted

MIB = 1 << 20
BYTES = random.Random(1).randbytes(6 * MIB + 4321)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    if not can_punch(tmp_path):
        pytest.skip("this file system cannot give parts of a file back")
    return tmp_path / "log"


def follow(path: Path, data: bytes | None = None) -> Spool:
    if data is not None:
        path.write_bytes(data)
    return Spool(new_attempt_id(), path)


def told(spool: Spool, durable: int = 0) -> tuple[bytes, list[tuple[int, int]]]:
    """All that the spool still says to a coordinator that has `durable` bytes: with zeros for holes, and these."""
    log, holes = bytearray(durable), []
    spool.disconnect()
    spool.acknowledge(durable)
    while piece := spool.take():
        if isinstance(piece, Hole):
            assert piece.offset == len(log)
            holes.append((len(log), len(log) + piece.length))
        log += bytes(piece.length) if isinstance(piece, Hole) else piece
        spool.acknowledge(len(log))
    return bytes(log[durable:]), holes


def with_holes(data: bytes, holes: list[tuple[int, int]]) -> bytes:
    changed = bytearray(data)
    for start, end in holes:
        changed[start:end] = bytes(end - start)
    return bytes(changed)


def test_one_piece_is_on_its_way_at_a_time(path: Path):
    spool = follow(path, BYTES)
    assert spool.take() is None  # nobody said from where
    spool.acknowledge(0)
    assert spool.take() == BYTES[:MAX_CHUNK_BYTES]
    assert spool.take() is None
    spool.acknowledge(10)
    assert spool.take() == BYTES[10 : 10 + MAX_CHUNK_BYTES]


def test_acknowledged_parts_are_given_back_and_no_offset_moves(path: Path):
    spool = follow(path, BYTES)
    spool.acknowledge(5 * MIB)
    before = spool.allocated
    spool.free_acknowledged(6 * MIB)  # not that much
    assert spool.allocated == before
    spool.free_acknowledged(BLOCK_BYTES)
    assert spool.allocated <= before - 5 * MIB + BLOCK_BYTES
    assert path.stat().st_size == len(BYTES)
    assert told(spool, 5 * MIB) == (BYTES[5 * MIB :], [])


def test_the_tail_is_never_given_back(path: Path):
    """The reason of a failure is read from it, acknowledged or not."""
    spool = follow(path, BYTES)
    spool.acknowledge(len(BYTES))
    spool.free_acknowledged(BLOCK_BYTES)
    assert path.read_bytes()[-TAIL_BYTES:] == BYTES[-TAIL_BYTES:]
    spool.disconnect()
    again = follow(path)
    for head in (HEAD_BYTES, 0):
        again.drop(head, len(BYTES))
    assert path.read_bytes()[-TAIL_BYTES:] == BYTES[-TAIL_BYTES:]


def test_a_coordinator_that_lost_acknowledged_bytes_is_told_that_they_are_gone(path: Path):
    spool = follow(path, BYTES)
    spool.acknowledge(5 * MIB)
    spool.free_acknowledged(BLOCK_BYTES)
    for mine in (spool, follow(path)):  # of a later agent, too
        log, holes = told(mine, MIB)
        [(start, end)] = holes
        assert (start, end) == (MIB, 5 * MIB)
        assert log == with_holes(BYTES, holes)[MIB:]


def test_what_is_given_up_is_the_oldest_unsent_middle(path: Path):
    spool = follow(path, BYTES)
    before = spool.droppable_bytes(HEAD_BYTES)
    spool.drop(HEAD_BYTES, MIB - 1)
    assert spool.droppable_bytes(HEAD_BYTES) == before - MIB
    assert told(spool)[1] == [(HEAD_BYTES, HEAD_BYTES + MIB)]
    spool = follow(path)
    spool.drop(HEAD_BYTES, len(BYTES))
    assert spool.droppable_bytes(HEAD_BYTES) == 0
    log, holes = told(spool)
    [(start, end)] = holes  # it grew where it was
    assert start == HEAD_BYTES
    assert len(BYTES) - TAIL_BYTES - BLOCK_BYTES < end <= len(BYTES) - TAIL_BYTES
    assert log == with_holes(BYTES, holes)


def test_every_byte_is_sent_or_in_one_hole_whatever_was_given_back(path: Path):
    for seed in range(20):
        luck = random.Random(seed)
        spool = follow(path, BYTES)
        durable = 0
        for _ in range(6):
            if luck.random() < 0.5:
                durable = luck.randrange(durable, len(BYTES) + 1)
                spool.acknowledge(durable)
                spool.free_acknowledged(BLOCK_BYTES)
            else:
                spool.drop(luck.choice((0, HEAD_BYTES, 2 * MIB)), luck.randrange(1, 2 * MIB))
            if luck.random() < 0.3:
                spool.leave()
                spool = Spool(spool.attempt, path)
        resumed = luck.randrange(0, durable + 1)
        log, holes = told(spool, resumed)
        assert log == with_holes(BYTES, holes)[resumed:]
        assert holes == sorted(holes)
        assert all(end <= len(BYTES) - TAIL_BYTES for _, end in holes)
        spool.leave()


@pytest.mark.parametrize("printed", [bytes(3 * MIB), b"a" + bytes(MIB) + b"b", b"\xff\xfe\r\x00" * 70_000])
def test_printed_zeros_are_bytes_and_no_hole(path: Path, printed: bytes):
    assert told(follow(path, printed)) == (printed, [])


def test_a_hole_of_the_trainers_own_making_is_said_to_be_one(path: Path):
    """It would be a gigabyte of zeros on the wire otherwise."""
    path.write_bytes(b"begin\n")
    os.truncate(path, 1 << 30)
    with path.open("ab") as file:
        file.write(b"end\n")
    log, holes = told(follow(path))
    [(start, end)] = holes
    assert (log[:6], log[end:]) == (b"begin\n", b"end\n")
    assert start < 1 * MIB < end


def test_a_log_that_is_cut_short_goes_on_where_it_was(path: Path):
    spool = follow(path, b"first words\n")
    spool.acknowledge(6)
    with path.open("r+b") as file:
        file.truncate(0)
    with path.open("ab") as file:
        file.write(b"more")
    assert spool.look()
    for mine in (spool, Spool(spool.attempt, path)):
        log, holes = told(mine, 6)
        assert (log, holes) == (bytes(6) + b"more", [(6, 12)])
    spool.close()
    assert spool.end == 16
    spool.acknowledge(16)
    assert spool.over.is_set()


def test_a_log_that_was_cut_short_while_no_agent_was_here_goes_on_behind_what_arrived(path: Path):
    spool = follow(path, b"new")
    spool.acknowledge(100)
    assert not spool.has_more
    with path.open("ab") as file:
        file.write(b" words\n")
    assert spool.look()
    assert told(spool, 100) == (b"new words\n", [])


def test_a_log_that_lost_its_end_with_the_machines_power_is_over(path: Path):
    spool = follow(path, b"what the disk kept")
    spool.acknowledge(100)
    spool.close()
    assert spool.over.is_set()
    assert spool.end == 100


def test_a_log_that_is_cut_between_two_looks_is_not_read_as_if_it_went_on(path: Path):
    spool = follow(path, BYTES)
    spool.acknowledge(0)
    path.write_bytes(b"something else")
    hole = spool.take()
    assert isinstance(hole, Hole)
    assert (hole.offset, hole.length) == (0, len(BYTES))


def test_a_log_that_the_trainer_removes_is_read_to_its_end(path: Path):
    spool = follow(path, b"before ")
    with path.open("ab") as trainer:
        path.unlink()
        trainer.write(b"after")
    spool.close()
    assert told(spool) == (b"before after", [])
    assert spool.over.is_set()


def test_a_log_that_was_removed_while_no_agent_was_here_ends_as_far_as_it_came(path: Path):
    spool = follow(path)
    spool.acknowledge(7)
    spool.close()
    assert spool.over.is_set()
    assert spool.end == 7


def test_nothing_can_be_given_back_on_every_file_system(tmp_path: Path):
    with mounted(tmp_path / "disk", "ramfs") as disk:
        assert not can_punch(disk)
        (disk / "log").write_bytes(BYTES)
        with (disk / "log").open("r+b") as file, pytest.raises(OSError):
            punch(file.fileno(), 0, BLOCK_BYTES)
        assert told(follow(disk / "log")) == (BYTES, [])


def test_a_file_system_that_tells_of_a_hole_where_data_is_loses_none(
    path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("fleet_agent.spool.data_after", lambda *_: None)
    assert told(follow(path, BYTES)) == (BYTES, [])


def test_a_log_that_is_cut_in_the_moment_of_reading_is_not_stuck(path: Path, monkeypatch: pytest.MonkeyPatch):
    spool = follow(path, b"words")
    spool.acknowledge(0)
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr("fleet_agent.spool.hole_after", lambda *_: os.truncate(path, 0))
        assert spool.take() is None
    hole = spool.take()
    assert isinstance(hole, Hole)
    assert hole.length == 5
