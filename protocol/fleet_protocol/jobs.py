"""Jobs on the wire: what is to be trained, what it needs, and how it stands."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from fleet_protocol.capability import ModelName
from fleet_protocol.ids import WireAttemptId, WireJobId, WireSha256, WireWorkerId
from fleet_protocol.states import AttemptStatus, JobStatus, LogState
from fleet_protocol.wire import Answer, Line, Request, Time, Whole

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
    gpus: int = 1
    """GPUs taken where the job runs on CUDA; without effect elsewhere."""


class Dataset(Answer):
    """A data set by its content: SHA-256 of the file, or of the folder's reproducible archive."""

    name: str
    sha256: WireSha256


class Program(Answer):
    """A trainer of the operator's own: an argument list, and the folder it runs in by its content."""

    command: tuple[str, ...]
    source: WireSha256 | None = None
    outputs: tuple[str, ...] = ()


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
    timeout: float | None = None
    """Seconds after which a running trainer is ended and the attempt counts as an error."""
    lease: float | None = None
    """Seconds that an attempt may go unheard; None takes the coordinator's."""
    exclusive: bool = False
    """The agent ends the trainer itself when its lease runs out unheard: no two ever run at once."""
    prefer_wait: float = 300
    """Seconds that a job with `prefer_cuda` is kept for a CUDA worker."""
    needs: Needs = Needs()
    dataset: Dataset | None = None
    program: Program | None = None


class Metric(Answer):
    """A figure with its interval, if one was estimated. The first of a job's metrics is its headline."""

    value: float
    low: float | None = None
    high: float | None = None
    unit: Annotated[str, Field(max_length=40)] = ""


class Progress(Request):
    """How far a training is, as it tells itself."""

    step: Whole = 0
    total: Whole | None = None
    phase: Annotated[str, Field(max_length=80)] | None = None
    eta_seconds: Annotated[float, Field(ge=0, le=1e10)] | None = None
    """What is left at the pace of this attempt so far. The coordinator works it out; an agent need not know."""


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
    checkpoint: WireSha256 | None = None
    log_state: LogState | None = None
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
    progress: Progress | None = None
    """As last heard of a running attempt; None in events, where a row stands for longer than that is true."""
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
    checkpoint: WireSha256 | None = None
    """What the next attempt would go on from."""
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
    kept: str | None = None
    """Why it is passed over although it fits: a preference for another worker, which lasts only so long."""


class Relaxation(Answer):
    """One change of the manifest that would let a worker take a job it refuses now."""

    worker: str
    key: str
    required: str
    suggested: str
    message: str


class Moment(Answer):
    """One event of a job's history, without the row after it."""

    at: Time
    kind: str
    actor: str
    worker: str | None = None
    detail: str | None = None


class Explanation(Answer):
    """Why a job is where it is: in one sentence, worker by worker, and how it came there."""

    job_id: WireJobId
    status: JobStatus
    summary: str
    workers: tuple[WorkerFit, ...] = ()
    relaxation: Relaxation | None = None
    """The smallest single change that would admit it; None where waiting is enough or no single change is."""
    timeline: tuple[Moment, ...] = ()


class AcceptRequest(Request):
    """Take the late artifact of an attempt that no longer held the job. Without one: the last that brought any."""

    attempt: WireAttemptId | None = None
    reason: Line = ""


class CancelRequest(Request):
    reason: Line = ""


class RequeueRequest(Request):
    reason: Line = ""
    again: bool = False
    """Also a completed job: train it anew, as a new generation; the artifact it has stays."""


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
    provenance: dict[str, str | int | float | bool | None] | None = None
    """Machine and versions that made it; None until its attempt has told."""


class ArtifactPage(Answer):
    models: tuple[ArtifactView, ...]
    next: str | None = None
