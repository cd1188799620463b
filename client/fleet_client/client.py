"""The typed client: one method per question or order, wire models in and out."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, Unpack
from urllib.parse import quote, urlencode

from fleet_client.access import Access
from fleet_client.answers import adapted, parsed
from fleet_client.connection import Query
from fleet_client.errors import Conflict, NotFound
from fleet_client.pushing import Told, push
from fleet_client.settings import find_target
from fleet_client.streams import messages
from fleet_protocol.errors import Code, Problem, ProblemItem
from fleet_protocol.events import EventPage, EventsFrame, LiveFrame, SnapshotFrame, events_frame
from fleet_protocol.health import Ready
from fleet_protocol.ids import AttemptId, Sha256
from fleet_protocol.jobs import (
    AcceptRequest,
    ArtifactPage,
    CancelRequest,
    Explanation,
    JobDetail,
    JobPage,
    JobView,
    RequeueRequest,
)
from fleet_protocol.local import Role
from fleet_protocol.logs import HOLES_HEADER, LogEnd, LogHole, LogStart, LogTime, to_viewer
from fleet_protocol.metrics import MAX_READ_POINTS, JobMetrics
from fleet_protocol.plan import CurrentManifest, Plan, ReloadRequest
from fleet_protocol.prune import PruneAnswer, PruneRequest
from fleet_protocol.workers import DrainRequest, WorkerPage, WorkerView

PAGE = 1000  # jobs; the most that a coordinator gives at once


@dataclass(frozen=True, slots=True)
class LogChunk:
    """A piece of an attempt's log: `data` begins at byte `offset` of the `length` bytes that are there now."""

    attempt: str
    offset: int
    data: bytes
    length: int
    open: bool
    """More may come: the attempt is not over."""
    holes: tuple[tuple[int, int], ...] = ()
    """From where to where bytes are missing, of all holes that touch this piece; they read as zeros."""
    state: str = ""
    """`live`, `complete`, `partial` or `expired`."""

    @property
    def end(self) -> int:
        """Where to go on: behind a hole that reaches beyond the piece."""
        return max(self.offset + len(self.data), *(end for _, end in self.holes), 0)


class Filters(TypedDict, total=False):
    """What a list of jobs is narrowed to. `sort`: queued, updated, name, status or priority, or `-` and one."""

    status: Sequence[str]
    model: str | None
    mode: str | None
    worker: str | None
    q: str | None
    sort: str | None


def connect(url: str | None = None, *, role: Role = "operator", context: str | None = None) -> FleetClient:
    """A client for what `settings.find_target` finds: `context` or `url`, environment, settings file, this machine."""
    target = find_target(url, role=role, context=context)
    return FleetClient(target.url, target.token)


def path_of(ref: str, tail: str = "") -> str:
    return f"/v1/job/{quote(ref, safe='')}{tail}"


def given(**values: str | int | None) -> Query:
    """Only what was given: an absent parameter and an empty one differ."""
    return [(key, value) for key, value in values.items() if value is not None]


class FleetClient(Access):
    """One coordinator. Every method raises `FleetError`s only; `transport` replaces the network in tests.

    Jobs are named by id, by a unique beginning of one (at least 4 characters), or by their exact name.
    """

    async def jobs(
        self, *, limit: int | None = None, cursor: str | None = None, **filters: Unpack[Filters]
    ) -> JobPage:
        """One page; its `next` is the cursor of the one that follows."""
        status = [("status", str(one)) for one in filters.pop("status", ())]
        others = [(key, str(value)) for key, value in filters.items() if value is not None]
        return await self._get(JobPage, "/v1/jobs", [*status, *others, *given(limit=limit, cursor=cursor)])

    async def all_jobs(self, **filters: Unpack[Filters]) -> list[JobView]:
        """Every page of `jobs`, one after the other."""
        found: list[JobView] = []
        cursor: str | None = None
        while True:
            page = await self.jobs(limit=PAGE, cursor=cursor, **filters)
            found += page.jobs
            cursor = page.next
            if cursor is None:
                return found

    async def job(self, ref: str) -> JobDetail:
        return await self._get(JobDetail, path_of(await self._plain(ref)))

    async def explain(self, ref: str) -> Explanation:
        return await self._get(Explanation, path_of(await self._plain(ref), "/explain"))

    async def metrics(
        self, ref: str, *, attempt: str | None = None, whole: bool = False, points: int | None = None
    ) -> JobMetrics:
        """The curves of `attempt`, else of the current or last one; `whole`: joined to those of the attempts before.

        Each is thinned to at most `points`, its ends and extremes kept; without a number as little as can be.
        """
        query = given(attempt=attempt, points=points or MAX_READ_POINTS, whole="true" if whole else None)
        return await self._get(JobMetrics, path_of(await self._plain(ref), "/metrics"), query)

    async def workers(self) -> WorkerPage:
        return await self._get(WorkerPage, "/v1/workers")

    async def drain(self, worker: str, reason: str = "") -> WorkerView:
        """Hands no new jobs to a worker (a name, an id or a beginning of one); what it trains goes on."""
        return await self._order(worker, "drain", reason)

    async def resume(self, worker: str, reason: str = "") -> WorkerView:
        """Hands jobs to a drained worker again."""
        return await self._order(worker, "resume", reason)

    async def _order(self, worker: str, verb: str, reason: str) -> WorkerView:
        path = f"/v1/worker/{quote(worker, safe='')}/{verb}"
        return await self._post(WorkerView, path, DrainRequest(reason=reason), repeatable=True)

    async def artifacts(self) -> ArtifactPage:
        return await self._get(ArtifactPage, "/v1/models")

    async def artifact_bytes(
        self, sha256: Sha256, start: int = 0, most: int | None = None
    ) -> AsyncGenerator[bytes]:
        """An artifact's bytes from `start` on, all or at most so many of them, as they come."""
        last = "" if most is None else start + most - 1
        headers = {"Range": f"bytes={start}-{last}", "Accept-Encoding": "identity"}
        async with self._streamed(f"/v1/model/{sha256}", headers) as answer:
            passed = 0 if answer.status_code == 206 else start  # a proxy may have left out the range
            async for block in answer.aiter_raw():
                if kept := block[passed:]:
                    yield kept
                passed = max(passed - len(block), 0)

    async def cancel(self, ref: str, reason: str = "") -> JobView:
        """A waiting job is cancelled at once; a running one is told to stop and says so in its row."""
        return await self._post(
            JobView, path_of(await self._plain(ref), "/cancel"), CancelRequest(reason=reason)
        )

    async def requeue(self, ref: str, reason: str = "", again: bool = False) -> JobView:
        """Puts a failed or cancelled job back in the queue, its counts of errors at zero.

        `again` also takes a completed one: it is trained anew, and the artifact that it has stays.
        """
        body = RequeueRequest(reason=reason, again=again)
        return await self._post(JobView, path_of(await self._plain(ref), "/requeue"), body)

    async def accept_result(self, ref: str, attempt: AttemptId | None = None, reason: str = "") -> JobView:
        """Completes a job with the artifact that `attempt`, else the last to bring one, handed in too late."""
        body = AcceptRequest(attempt=attempt, reason=reason)
        return await self._post(JobView, path_of(await self._plain(ref), "/accept-result"), body)

    async def plan(
        self, toml: str | None = None, file: str | None = None, blobs: dict[str, Sha256] | None = None
    ) -> Plan:
        """What `reload` would do. Without a text the coordinator reads its own file.

        `blobs` are the digests of the data sets and sources that the text names
        (`fleet_protocol.manifest.contents`), by path as written.
        """
        body = ReloadRequest(toml=toml, file=file, blobs=blobs or None)
        return await self._post(Plan, "/v1/manifest/plan", body, repeatable=True)

    async def reload(
        self, toml: str | None = None, file: str | None = None, blobs: dict[str, Sha256] | None = None
    ) -> Plan:
        """Apply a manifest in one transaction; arguments as for `plan`."""
        body = ReloadRequest(toml=toml, file=file, blobs=blobs or None)
        return await self._post(Plan, "/v1/manifest/reload", body, repeatable=True)

    async def push(self, path: Path, sha256: Sha256, told: Told = lambda done, total: None) -> None:
        """Stores a data set or a source, which has to be what `sha256` names (`manifest.contents` says it).

        Goes on where an earlier try ended. `told` hears how many bytes are there, and how many it will be.
        """
        await push(self._transfer, path, sha256, told)

    async def prune(self, *, dry_run: bool = True) -> PruneAnswer:
        """Deletes what is stored and nothing refers to; as a dry run only tells what that is."""
        return await self._post(PruneAnswer, "/v1/prune", PruneRequest(dry_run=dry_run))

    async def manifest(self) -> CurrentManifest:
        return await self._get(CurrentManifest, "/v1/manifest")

    async def health(self) -> None:
        """Returns when the coordinator answers; needs no token."""
        await self._ask("GET", "/v1/health", repeatable=True)

    async def ready(self) -> Ready:
        """Part by part what works and what does not; that something does not is an answer and no error."""
        answer = await self._send("GET", "/v1/ready")
        if answer.status_code not in (200, 503):
            raise self._refusal(answer)
        return parsed(Ready, answer.content, self.target.url)

    async def events(
        self, after: int | None = None
    ) -> AsyncGenerator[SnapshotFrame | EventsFrame | LiveFrame]:
        """Frames of one connection, until the coordinator closes it; go on with the last frame's `cursor`.

        Without `after`, or with one that the coordinator does not know, a snapshot comes first.
        """
        query = f"?{urlencode(given(after=after))}" if after is not None else ""
        async for message in messages(self.target, f"/v1/events{query}"):
            yield adapted(events_frame, message, self.target.url)

    async def history(self, before: int, *, limit: int = 500) -> EventPage:
        """The last events before that one, in order, at most 1000; none where the history begins."""
        return await self._get(EventPage, "/v1/events", given(before=before, limit=limit))

    async def follow_log(
        self,
        ref: str,
        *,
        offset: int | None = None,
        tail: int | None = None,
        since: str | None = None,
        attempt: str | None = None,
        times: bool = False,
    ) -> AsyncGenerator[LogStart | bytes | LogHole | LogTime | LogEnd]:
        """`LogStart`, then the log's bytes as they come, then `LogEnd` once the attempt is over.

        From byte `offset`, from the last `tail` lines, or from what came `since` (a number of seconds ago, or a time
        as RFC 3339), else from the beginning. A `LogHole` stands for bytes that are missing;
        with `times` a `LogTime` says when what follows came. Without a `LogEnd` the
        coordinator went away: go on from the start's offset plus what was received and missed.
        """
        query = urlencode(given(offset=offset, tail=tail, since=since, attempt=attempt, times=times or None))
        path = path_of(await self._plain(ref), "/log") + (f"?{query}" if query else "")
        async for message in messages(self.target, path):
            yield message if isinstance(message, bytes) else adapted(to_viewer, message, self.target.url)

    async def read_log(
        self,
        ref: str,
        *,
        offset: int | None = None,
        tail: int | None = None,
        since: str | None = None,
        attempt: str | None = None,
    ) -> LogChunk:
        """What is there now, at most 4 MiB; go on at the chunk's `end` while that is below its `length`."""
        query = given(offset=offset, tail=tail, since=since, attempt=attempt)
        answer = await self._ask("GET", path_of(await self._plain(ref), "/log"), query, repeatable=True)
        headers = answer.headers
        return LogChunk(
            attempt=headers.get("Fleet-Attempt", ""),
            offset=int(headers.get("Fleet-Log-Offset", offset or 0)),
            data=answer.content,
            length=int(headers.get("Fleet-Log-Length", len(answer.content))),
            open=headers.get("Fleet-Log-Open") == "?1",
            holes=_spans(headers.get(HOLES_HEADER, "")),
            state=headers.get("Fleet-Log-State", ""),
        )

    async def _plain(self, ref: str) -> str:
        """`ref` unless it cannot stand in a path: servers decode %2F before they look at the path's parts."""
        if not ref.strip():
            detail = "No job is named: an id, the beginning of one or a name is needed."
            raise NotFound(
                Problem(title="No job", status=404, detail=detail, next="fleet list", code=Code.UNKNOWN_JOB)
            )
        if "/" not in ref and ref not in (".", ".."):
            return ref
        ids = [job.job_id for job in await self.all_jobs(q=ref) if job.name == ref]
        if len(ids) == 1:
            return ids[0]
        if not ids:
            detail = f"There is no job named {ref!r}."
            raise NotFound(Problem(title="Unknown job", status=404, detail=detail, code=Code.UNKNOWN_JOB))
        detail = f"{len(ids)} jobs are named {ref!r}; give the id of one: {', '.join(ids)}."
        items = tuple(ProblemItem(message=one) for one in ids)
        raise Conflict(
            Problem(
                title="Ambiguous name", status=409, detail=detail, code=Code.INVALID_REQUEST, errors=items
            )
        )


def _spans(text: str) -> tuple[tuple[int, int], ...]:
    """`START-END,START-END` as numbers."""
    pairs = (span.split("-") for span in text.split(",") if span)
    return tuple((int(start), int(end)) for start, end in pairs)
