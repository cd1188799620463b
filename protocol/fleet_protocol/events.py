"""The append-only history, and the two kinds of frame of the events websocket.

An event carries the row after it, so a reader only replaces rows and holds no transition logic of its own.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from fleet_protocol.ids import WireAttemptId, WireJobId
from fleet_protocol.jobs import JobView, Progress
from fleet_protocol.wire import Answer, Time
from fleet_protocol.workers import Gauges, WorkerView


class Event(Answer):
    """One transition: who did what to which job or worker, and the row after it."""

    event: int
    """Grows from event to event, over restarts and a restored backup too; below 2**53. No two events have the same."""
    at: Time
    kind: str
    """Past tense: queued, claimed, started, completed, failed, requeued, released, lost, cancelled, …"""
    actor: str
    """`operator`, `agent:NAME`, `coordinator`."""
    detail: str | None = None
    job: JobView | None = None
    worker: WorkerView | None = None


class EventPage(Answer):
    events: tuple[Event, ...]
    next: int
    """The cursor to ask for what follows."""


class SnapshotFrame(Answer):
    """Everything at one moment; sent first to a reader without a cursor, or with one that is not of this history."""

    type: Literal["snapshot"] = "snapshot"
    cursor: int
    fleet: str
    server_time: Time
    jobs: tuple[JobView, ...]
    workers: tuple[WorkerView, ...]


class EventsFrame(Answer):
    """Events in order, each id exactly once over any number of reconnects by cursor."""

    type: Literal["events"] = "events"
    cursor: int
    events: tuple[Event, ...]


class LiveFrame(Answer):
    """What is true now and not worth keeping: coalesced, unpersisted, each field only when it changed."""

    type: Literal["live"] = "live"
    server_time: Time
    log_lengths: dict[WireAttemptId, int] = Field(default_factory=dict)
    metric_points: dict[WireAttemptId, int] = Field(default_factory=dict)
    """How many points of its curves an attempt has told: when to ask for them again."""
    progress: dict[WireJobId, Progress] = Field(default_factory=dict)
    heard: dict[str, Time] = Field(default_factory=dict)
    """Worker id to when it was last heard."""
    gauges: dict[str, Gauges] = Field(default_factory=dict)
    """Worker id to how busy its machine is."""
    waiting: dict[WireJobId, str] = Field(default_factory=dict)
    """Pending job to the sentence why it waits; the empty string once nothing bars it."""


EventsFrameAny = Annotated[SnapshotFrame | EventsFrame | LiveFrame, Field(discriminator="type")]
events_frame: TypeAdapter[SnapshotFrame | EventsFrame | LiveFrame] = TypeAdapter(EventsFrameAny)
