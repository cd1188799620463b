"""Log bytes on the wire: one binary frame layout, and the words around it.

A log is the plain bytes that the trainer printed. Agent to coordinator: `data_frame` and `hole`, one in flight
per attempt. Coordinator to agent: the JSON words `ack`, `nack`, `stop`, `wake`. Coordinator to viewer: the log's
bytes as binary messages, `LogHole` in the place of what was never brought, then one `LogEnd`.
"""

from __future__ import annotations

import struct
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, TypeAdapter

from fleet_protocol.ids import AttemptId, WireAttemptId, WireUuid, WireWorkerId
from fleet_protocol.states import AttemptStatus
from fleet_protocol.wire import Answer, Line, Request
from fleet_protocol.workers import Gauges

HEADER = struct.Struct(">16sQ")  # attempt (UUID bytes), offset of the first byte in the log
MAX_CHUNK_BYTES = 256 * 1024
MAX_HOLE_BYTES = 1 << 40
HOLE_HEADER = "Fleet-Log-Hole"
"""`PATCH` of a log with this header (a length) and no body declares a hole at `Upload-Offset`."""
HOLES_HEADER = "Fleet-Log-Holes"
"""In answers to readers: the holes of the part that is answered, `START-END,...`, their bytes being zeros."""


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


class Hole(Request):
    """The agent no longer has these bytes and declares them lost: the log goes on behind them.

    The append rule holds as for bytes: `offset` is the durable length, and the same hole again changes nothing.
    """

    type: Literal["hole"] = "hole"
    attempt: WireAttemptId
    offset: Annotated[int, Field(ge=0)]
    length: Annotated[int, Field(ge=1, le=MAX_HOLE_BYTES)]
    why: Line = ""


class Ack(Answer):
    """Everything below `durable` is on the coordinator's disk."""

    type: Literal["ack"] = "ack"
    attempt: WireAttemptId
    durable: int


class Nack(Answer):
    """Nothing was taken. `gap`: go on from `durable`. `full`: no room now, try the same again in a while.

    Everything else ends the sending of this log.
    """

    type: Literal["nack"] = "nack"
    attempt: WireAttemptId
    durable: int
    reason: Literal["gap", "full", "diverged", "unknown", "closed"]


class Stop(Answer):
    """End this trainer now: its job was cancelled or belongs to another attempt."""

    type: Literal["stop"] = "stop"
    attempt: WireAttemptId
    why: str


class Wake(Answer):
    """Something changed that a heartbeat or a claim would tell; ask now rather than at the next beat."""

    type: Literal["wake"] = "wake"


class GaugesWord(Gauges):
    """How busy the agent's machine is, whether it holds an attempt or not."""

    type: Literal["gauges"] = "gauges"


ToAgent = Annotated[Resume | Ack | Nack | Stop | Wake, Field(discriminator="type")]
FromAgent = Annotated[StreamHello | Ask | Hole | GaugesWord, Field(discriminator="type")]
to_agent: TypeAdapter[Resume | Ack | Nack | Stop | Wake] = TypeAdapter(ToAgent)
from_agent: TypeAdapter[StreamHello | Ask | Hole | GaugesWord] = TypeAdapter(FromAgent)


class AppendAnswer(Answer):
    """Answer to `PATCH` and `HEAD` of an attempt's log."""

    durable: int


class LogStart(Answer):
    """First message to a viewer: which attempt, and the offset of the first byte that follows."""

    type: Literal["start"] = "start"
    attempt: WireAttemptId
    offset: int


class LogHole(Answer):
    """`length` bytes from `offset` on are missing; what follows begins behind them."""

    type: Literal["hole"] = "hole"
    offset: int
    length: int
    why: Literal["lost", "expired"] = "lost"
    """The agent could not keep them, or the coordinator has let them go."""


class LogTime(Answer):
    """What follows came to the coordinator at `at`, to the second; told to viewers that ask for times."""

    type: Literal["time"] = "time"
    at: datetime


class LogEnd(Answer):
    """The attempt is over and every byte of its log was sent."""

    type: Literal["end"] = "end"
    attempt: WireAttemptId
    length: int
    status: AttemptStatus


to_viewer: TypeAdapter[LogStart | LogHole | LogTime | LogEnd] = TypeAdapter(
    Annotated[LogStart | LogHole | LogTime | LogEnd, Field(discriminator="type")]
)
