"""TensorBoard's event files, by hand: TFRecord frames around the few fields of an `Event` that a scalar needs.

A frame is the length, its masked CRC-32C, the payload, and the payload's masked CRC-32C, all little-endian
(tensorflow/core/lib/io/record_writer.h). The payload is a protocol buffer (tensorflow/core/util/event.proto).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path

from fleet_client.errors import Unreadable
from fleet_client.export import Point, Run

POLYNOMIAL = 0x82F63B78  # Castagnoli's, reflected
MASK_DELTA = 0xA282EAD8
UNFIT = re.compile(r"[^\w.=,+-]+", re.ASCII)  # for a folder's name on every system
VARINT, DOUBLE, BYTES, FLOAT = 0, 1, 2, 5  # the wire types


def _row(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (POLYNOMIAL if byte & 1 else 0)
    return byte


TABLE = tuple(map(_row, range(256)))


def write(run: Run, folder: Path) -> Path:
    """The run's one file, in a folder named after its job; written whole or not at all. Unreadable.

    It takes the place of an earlier attempt's: TensorBoard would draw all files of a folder as one curve.
    """
    target = folder / name_of(run) / f"events.out.tfevents.{int(began(run))}.{run.attempt.attempt}"
    part = target.with_name(f".{run.attempt.attempt}.part")  # a name that no reader takes for events
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(b"".join(map(record, events(run))))
        part.replace(target)
        for other in target.parent.glob("events.out.tfevents.*"):
            if other != target:
                other.unlink()
    except OSError as error:
        raise Unreadable(f"{target} cannot be written: {error.strerror or error}.") from error
    return target


def name_of(run: Run) -> str:
    """What TensorBoard calls the run."""
    return f"{UNFIT.sub('_', run.job.name)[:60]}-{run.job.job_id}"


def began(run: Run) -> float:
    return (run.attempt.started_at or run.attempt.created_at).timestamp()


def events(run: Run) -> Iterator[bytes]:
    """The version that readers ask for first, then a scalar each."""
    yield field(1, DOUBLE, began(run)) + field(3, BYTES, b"brain.Event:2")
    for point in run.points:
        yield event(point)


def event(point: Point) -> bytes:
    """Event{wall_time=1, step=2, summary=5: Summary{value=1: Value{tag=1, simple_value=2}}}"""
    value = field(1, BYTES, point.name.encode()) + field(2, FLOAT, point.value)
    summary = field(1, BYTES, value)
    return field(1, DOUBLE, point.at) + field(2, VARINT, point.step) + field(5, BYTES, summary)


def field(number: int, kind: int, value: float | bytes) -> bytes:
    key = varint(number << 3 | kind)
    if isinstance(value, bytes):
        return key + varint(len(value)) + value
    if kind == VARINT:
        return key + varint(int(value))
    return key + (struct.pack("<d", value) if kind == DOUBLE else single(value))


def single(value: float) -> bytes:
    """Four bytes; what does not fit is infinite."""
    try:
        return struct.pack("<f", value)
    except OverflowError:
        return struct.pack("<f", float("inf") if value > 0 else float("-inf"))


def varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; a negative one as 64 bits' complement."""
    value &= 2**64 - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def record(payload: bytes) -> bytes:
    length = struct.pack("<Q", len(payload))
    return length + masked_crc(length) + payload + masked_crc(payload)


def masked_crc(content: bytes) -> bytes:
    """CRC-32C, turned by 15 bits and moved, so that a checksum of checksums stays one."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc = TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + MASK_DELTA) & 0xFFFFFFFF)
