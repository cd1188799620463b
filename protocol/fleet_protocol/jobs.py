"""Jobs on the wire: what is to be trained, what it needs, and how it stands."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from fleet_protocol.capability import ModelName
from fleet_protocol.ids import WireAttemptId, WireJobId, WireSha256, WireWorkerId
from fleet_protocol.states import AttemptStatus, JobStatus
from fleet_protocol.wire import Answer, Line, Request, Time

Mode = Literal["realistic", "oracle"]
SplitRecipe = Literal["host", "sample", "time"]


class Needs(Answer):
    """What a job asks of a worker. Not part of its identity: changing it never trains a job again."""

    require_cuda: bool = False
    prefer_cuda: bool = False
    min_vram_gib: float = 0
    min_ram_gib: float = 4
    min_cores: int = 1
    allowed_hosts: tuple[str, ...] = ()
    denied_hosts: tuple[str, ...] = ()


class JobSpec(Answer):
    """One job of the manifest with every default filled in, save in `hyper`, which stays as written."""

    job_id: WireJobId
    name: str
    model: ModelName
    mode: Mode
    hyper: dict[str, JsonValue]
    split_recipe: SplitRecipe
    train_hosts: tuple[str, ...]
    seed: int
    n_resamples: int
    priority: int = 0
    max_attempts: int = 3
    needs: Needs = Needs()


class Metric(Answer):
    """A figure with its interval, if one was estimated. The first of a job's metrics is its headline."""

    value: float
    low: float | None = None
    high: float | None = None
    unit: Annotated[str, Field(max_length=40)] = ""


class AttemptView(Answer):
    """One try at a job by one worker."""

    attempt: WireAttemptId
    number: int
    worker: str
    worker_id: WireWorkerId
    status: AttemptStatus
    reason: str | None = None
    exit_code: int | None = None
    created_at: Time
    started_at: Time | None = None
    ended_at: Time | None = None
    last_heartbeat_at: Time | None = None
    artifact: WireSha256 | None = None
    tail: str | None = None


class JobView(Answer):
    """A job's row, as lists and events show it. `version` is the id of the last event about it."""

    job_id: WireJobId
    name: str
    model: str
    mode: str
    status: JobStatus
    reason: str | None = None
    """Why it failed, why it waits, or why it is being stopped; None where there is nothing to say."""
    priority: int
    attempts: int
    worker: str | None = None
    attempt: WireAttemptId | None = None
    artifact: WireSha256 | None = None
    metrics: dict[str, Metric] = Field(default_factory=dict)
    cancel_requested: bool = False
    in_manifest: bool = True
    created_at: Time
    queued_at: Time
    started_at: Time | None = None
    finished_at: Time | None = None
    updated_at: Time
    version: int = 0


class JobDetail(JobView):
    """Everything known of one job: its specification, its attempts (oldest first), where its artifact is."""

    spec: JobSpec
    max_attempts: int
    errors: int
    lost: int
    not_before: Time | None = None
    history: tuple[AttemptView, ...] = ()
    artifact_path: str | None = None


class JobPage(Answer):
    jobs: tuple[JobView, ...]
    next: str | None = None


Sort = Literal[
    "queued", "-queued", "updated", "-updated", "name", "-name", "status", "-status", "priority", "-priority"
]


class JobQuery(Request):
    """What a list of jobs is narrowed to, how it is sorted (`-` in front: descending), and where it goes on."""

    status: tuple[JobStatus, ...] = ()
    model: str | None = None
    mode: str | None = None
    worker: str | None = None
    q: str | None = None
    """Part of a name, or the beginning of an id."""
    sort: Sort = "queued"
    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    cursor: str | None = None


class Refusal(Answer):
    """One reason why a worker does not take a job, with the numbers: what is required, what is offered."""

    code: str
    required: str
    offered: str
    message: str


class WorkerFit(Answer):
    """How one worker stands to one job; `refusals` empty means that it could take it now."""

    worker: str
    refusals: tuple[Refusal, ...] = ()


class Explanation(Answer):
    """Why a job is where it is: in one sentence, and worker by worker."""

    job_id: WireJobId
    status: JobStatus
    summary: str
    workers: tuple[WorkerFit, ...] = ()


class CancelRequest(Request):
    reason: Line = ""


class RequeueRequest(Request):
    reason: Line = ""


class ArtifactView(Answer):
    """One verified upload. `path` is relative to the coordinator's data folder."""

    sha256: WireSha256
    size_bytes: int
    model: str
    mode: str
    job_id: WireJobId
    attempt: WireAttemptId
    worker: str
    uploaded_at: Time
    path: str


class ArtifactPage(Answer):
    models: tuple[ArtifactView, ...]
    next: str | None = None
