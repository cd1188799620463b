"""Workers on the wire: what an agent says and is told, and how a worker stands."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from fleet_protocol.capability import Capability
from fleet_protocol.ids import WireAttemptId, WireJobId, WireSha256, WireUuid, WireWorkerId
from fleet_protocol.jobs import JobSpec, Metric, Progress
from fleet_protocol.states import FailureKind, JobStatus, ReleaseReason, Verdict
from fleet_protocol.wire import Answer, Count, Label, Line, Request, Time, Whole, storable

Tail = Annotated[str, Field(max_length=16_384), AfterValidator(storable)]
Share = Annotated[float, Field(ge=0, le=100)]
Amount = Annotated[float, Field(ge=0, le=1_000_000)]


class GpuGauge(Request):
    """How busy one accelerator is; None where its driver does not say."""

    busy_pct: Share | None = None
    vram_used_gib: Amount | None = None
    temperature_c: Annotated[float, Field(ge=-273, le=1000)] | None = None


class Gauges(Request):
    """How busy a machine is, as a sample of a moment."""

    cpu_pct: Share | None = None
    """Of all cores together."""
    ram_used_gib: Amount | None = None
    disk_free_gib: Amount | None = None
    """Where the agent keeps its state."""
    gpus: Annotated[tuple[GpuGauge, ...], Field(max_length=64)] = ()
    """In the order of the capability's GPUs."""


class LocalAttempt(Request):
    """An attempt that an agent holds on its disk, whether its trainer still runs or not."""

    attempt: WireAttemptId
    job_id: WireJobId
    running: bool


class AttemptVerdict(Answer):
    attempt: WireAttemptId
    verdict: Verdict
    why: str | None = None


class HelloRequest(Request):
    """Registers a worker and tells everything it holds; sent at start and whenever it is asked for again."""

    worker: WireWorkerId
    name: Label
    protocol: int
    version: Label
    incarnation: WireUuid
    """New at each process start: tells a restarted agent from a copied state folder."""
    boot_id: str | None = None
    moved: bool = False
    """Its state folder is not where its identity was made: moved there, or a copy."""
    capability: Capability
    attempts: tuple[LocalAttempt, ...] = ()
    gauges: Gauges | None = None


class HelloAnswer(Answer):
    version: str
    protocol: int
    server_time: Time
    heartbeat_seconds: float
    attempts: tuple[AttemptVerdict, ...] = ()


class ClaimRequest(Request):
    """Asks for one job. `claim_id` was written to disk first: sending it again gives the same answer."""

    worker: WireWorkerId
    claim_id: WireUuid
    wait: Annotated[float, Field(ge=0, le=30)] = 0
    """Seconds the coordinator may hold the request while nothing fits."""
    holds: Annotated[tuple[WireSha256, ...], Field(max_length=1000)] = ()
    """Blobs in this worker's cache: who has a job's data set is preferred for it."""


class ClaimAnswer(Answer):
    job: JobSpec
    attempt: WireAttemptId
    number: int
    lease_seconds: float
    checkpoint: WireSha256 | None = None
    """A blob, the archive of the checkpoint folder that an earlier attempt left."""


class StartRequest(Request):
    worker: WireWorkerId
    attempt: WireAttemptId


class HeartbeatRequest(Request):
    worker: WireWorkerId
    attempt: WireAttemptId
    progress: Progress | None = None
    gauges: Gauges | None = None


class HeartbeatAnswer(Answer):
    """Always sent with status 200: a heartbeat has a verdict, not an error."""

    verdict: Verdict
    why: str | None = None
    lease_seconds: float = 0


class CheckpointRequest(Request):
    """`PUT /v1/attempt/{uuid}/checkpoint`: the blob, uploaded before, that the next attempt would go on from."""

    worker: WireWorkerId
    sha256: WireSha256


class CompleteRequest(Request):
    worker: WireWorkerId
    attempt: WireAttemptId
    artifact: WireSha256
    metrics: dict[Annotated[str, Field(max_length=80)], Metric] = Field(default_factory=dict, max_length=200)
    provenance: dict[Annotated[str, Field(max_length=80)], str | int | float | bool | None] = Field(
        default_factory=dict, max_length=100
    )
    """Versions, commit and machine: kept beside the artifact, never inside it."""
    log_bytes: Count | None = None
    """Length of the whole log, so that its reader knows when it has all of it."""


class FailRequest(Request):
    worker: WireWorkerId
    attempt: WireAttemptId
    kind: FailureKind
    reason: Line
    exit_code: Whole | None = None
    tail: Tail = ""
    """The log's last lines, so that the reason is at hand even where the log is not."""
    log_bytes: Count | None = None
    """Length of the whole log, so that its reader knows when it has all of it."""


class ReleaseRequest(Request):
    worker: WireWorkerId
    attempt: WireAttemptId
    reason: ReleaseReason
    detail: Line = ""
    log_bytes: Count | None = None
    """Length of the whole log, so that its reader knows when it has all of it."""


class TransitionAnswer(Answer):
    """What became of the job through a start, complete, fail or release."""

    job_id: WireJobId
    status: JobStatus
    attempt: WireAttemptId | None = None
    reason: str | None = None


class UploadAnswer(Answer):
    sha256: WireSha256
    size_bytes: int
    stored: bool
    """False when the same bytes were there already."""


class FailureCount(Answer):
    """How often a job failed on a worker, the last reason, and what the manifest might say instead."""

    job_id: WireJobId
    name: str
    count: int
    reason: str
    suggestion: str | None = None


class WorkerView(Answer):
    """A worker's row, as lists and events show it."""

    worker: WireWorkerId
    name: str
    live: bool
    draining: bool = False
    priority: int = 0
    description: str = ""
    capability: Capability
    version: str
    running: tuple[WireJobId, ...] = ()
    failures: tuple[FailureCount, ...] = ()
    """Only in lists of workers: the jobs that failed here, most often first."""
    gauges: Gauges | None = None
    """As last heard; None in events, where a row stands for longer than a gauge is true."""
    first_heard_at: Time
    last_heard_at: Time


class DrainRequest(Request):
    """For drain and resume alike."""

    reason: Line = ""


class WorkerPage(Answer):
    workers: tuple[WorkerView, ...]
    next: str | None = None
