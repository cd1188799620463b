"""What goes to other tools is read back: TensorBoard's files by their published format, MLflow's calls by a server."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from fleet_client.export import NotExportable, Run, run_of
from fleet_client.export_tensorboard import masked_crc, write
from fleet_protocol.ids import AttemptId
from fleet_protocol.jobs import Metric
from fleet_protocol.metrics import JobMetrics, Reading
from fleet_protocol.states import JobStatus
from tests.client.fake import ATTEMPT, NOW, a_job, detail_of

BEGAN = NOW.timestamp()
CURVES: dict[str, tuple[Reading, ...]] = {
    "loss": ((0, 1.5, BEGAN + 1), (300, None, BEGAN + 2), (70_000, 1e300, BEGAN + 3))
}


def a_run(attempt: AttemptId = ATTEMPT, points: int = 0) -> Run:
    detail = detail_of(a_job(1, JobStatus.FAILED, name="gbt: a/b"))
    history = (
        detail.history[0].model_copy(update={"attempt": attempt, "ended_at": NOW + timedelta(minutes=1)}),
    )
    metrics = {"accuracy": Metric(value=0.9, low=0.8)}
    curves = {**CURVES, "many": tuple((step, float(step), BEGAN) for step in range(points))}
    return run_of(
        detail.model_copy(update={"history": history, "metrics": metrics}),
        JobMetrics(job_id=detail.job_id, attempt=attempt, series=curves),
    )


def unvarint(data: bytes) -> tuple[int, bytes]:
    value = shift = 0
    for at, byte in enumerate(data):
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, data[at + 1 :]
    raise AssertionError("a varint without an end")


def fields(message: bytes) -> dict[int, Any]:
    """A protocol buffer's fields by number; a float of four or eight bytes, a whole number, or bytes."""
    found: dict[int, Any] = {}
    while message:
        key, message = unvarint(message)
        if key & 7 == 0:
            found[key >> 3], message = unvarint(message)
        elif key & 7 == 2:
            length, message = unvarint(message)
            found[key >> 3], message = message[:length], message[length:]
        else:
            kind = {1: "<d", 5: "<f"}[key & 7]
            size = struct.calcsize(kind)
            (found[key >> 3],), message = struct.unpack(kind, message[:size]), message[size:]
    return found


def frames(data: bytes) -> Iterator[bytes]:
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        assert data[8:12] == masked_crc(data[:8])
        payload, data = data[12 : 12 + length], data[12 + length :]
        assert data[:4] == masked_crc(payload)
        yield payload
        data = data[4:]


def test_the_checksum_is_the_published_one():
    (masked,) = struct.unpack("<I", masked_crc(b"123456789"))
    turned = (masked - 0xA282EAD8) & 0xFFFFFFFF
    assert (turned >> 17 | turned << 15) & 0xFFFFFFFF == 0xE3069283


def test_an_event_file_tells_every_point_and_the_test(tmp_path: Path):
    file = write(a_run(), tmp_path)
    assert file.parent.name == "gbt_a_b-0000000000000001"
    first, *others = map(fields, frames(file.read_bytes()))
    assert first == {1: BEGAN, 3: b"brain.Event:2"}
    told = []
    for event in others:
        value = fields(fields(event[5])[1])
        told.append((value[1], event[2], event[1], value[2]))
    assert told[0] == (b"loss", 0, BEGAN + 1, 1.5)
    assert math.isnan(told[1][3])
    assert told[2] == (b"loss", 70_000, BEGAN + 3, math.inf)
    assert told[3] == (b"test/accuracy", 70_000, BEGAN + 60, pytest.approx(0.9))
    assert [one[0] for one in told[4:]] == [b"test/accuracy.low"]


def test_a_later_attempt_takes_the_place_of_the_one_before(tmp_path: Path):
    write(a_run(), tmp_path)
    second = write(a_run(AttemptId(str(uuid4()))), tmp_path)
    assert list(tmp_path.rglob("*.*")) == [second]


def test_what_never_ran_is_not_exported():
    waiting = detail_of(a_job(1))
    with pytest.raises(NotExportable, match="has not run yet"):
        run_of(waiting, JobMetrics(job_id=waiting.job_id, attempt=ATTEMPT))
