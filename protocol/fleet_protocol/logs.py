"""Log bytes on the wire: one binary frame layout, and the words around it.

A log is the plain bytes that the trainer printed. Agent to coordinator: `data_frame`, one in flight per
attempt. Coordinator to agent: the JSON words `ack`, `nack`, `stop`, `wake`. Coordinator to viewer: the log's
bytes as binary messages, then one `LogEnd`.
"""

from __future__ import annotations

import struct
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, TypeAdapter

from fleet_protocol.ids import AttemptId, WireAttemptId, WireUuid, WireWorkerId
from fleet_protocol.states import AttemptStatus
from fleet_protocol.wire import Answer, Request

HEADER = struct.Struct(">16sQ")  # attempt (UUID bytes), offset of the first byte in the log
MAX_CHUNK_BYTES = 256 * 1024


def data_frame(attempt: AttemptId, offset: int, data: bytes) -> bytes:
    """One chunk of a log: 16 bytes attempt, 8 bytes big-endian offset, then at most `MAX_CHUNK_BYTES`."""
    return HEADER.pack(UUID(attempt).bytes, offset) + data


def parse_data_frame(frame: bytes) -> tuple[AttemptId, int, bytes]:
    """The inverse of `data_frame`; ValueError when it is too short or too long to be one."""
    if not HEADER.size <= len(frame) <= HEADER.size + MAX_CHUNK_BYTES:
        raise ValueError(
            f"a log frame has {HEADER.size} to {HEADER.size + MAX_CHUNK_BYTES} bytes, not {len(frame)}"
        )
    raw, offset = HEADER.unpack_from(frame)
    return AttemptId(str(UUID(bytes=raw))), offset, frame[HEADER.size :]


class StreamHello(Request):
    """First message of an agent's websocket."""

    type: Literal["hello"] = "hello"
    worker: WireWorkerId
    incarnation: WireUuid


class Resume(Answer):
    """The coordinator dictates from which offset an attempt's log goes on."""

    type: Literal["resume"] = "resume"
    attempt: WireAttemptId
    durable: int


class Ask(Request):
    """An agent asks from where to go on with a log."""

    type: Literal["ask"] = "ask"
    attempt: WireAttemptId


class Ack(Answer):
    """Everything below `durable` is on the coordinator's disk."""

    type: Literal["ack"] = "ack"
    attempt: WireAttemptId
    durable: int


class Nack(Answer):
    """Nothing was taken. `gap`: go on from `durable`. Everything else ends the sending of this log."""

    type: Literal["nack"] = "nack"
    attempt: WireAttemptId
    durable: int
    reason: Literal["gap", "diverged", "unknown", "closed"]


class Stop(Answer):
    """End this trainer now: its job was cancelled or belongs to another attempt."""

    type: Literal["stop"] = "stop"
    attempt: WireAttemptId
    why: str


class Wake(Answer):
    """Something changed that a heartbeat or a claim would tell; ask now rather than at the next beat."""

    type: Literal["wake"] = "wake"


ToAgent = Annotated[Resume | Ack | Nack | Stop | Wake, Field(discriminator="type")]
FromAgent = Annotated[StreamHello | Ask, Field(discriminator="type")]
to_agent: TypeAdapter[Resume | Ack | Nack | Stop | Wake] = TypeAdapter(ToAgent)
from_agent: TypeAdapter[StreamHello | Ask] = TypeAdapter(FromAgent)


class AppendAnswer(Answer):
    """Answer to `PATCH` and `HEAD` of an attempt's log."""

    durable: int


class LogStart(Answer):
    """First message to a viewer: which attempt, and the offset of the first byte that follows."""

    type: Literal["start"] = "start"
    attempt: WireAttemptId
    offset: int


class LogEnd(Answer):
    """The attempt is over and every byte of its log was sent."""

    type: Literal["end"] = "end"
    attempt: WireAttemptId
    length: int
    status: AttemptStatus


to_viewer: TypeAdapter[LogStart | LogEnd] = TypeAdapter(
    Annotated[LogStart | LogEnd, Field(discriminator="type")]
)
