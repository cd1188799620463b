"""What comes of an attempt: judged when its trainer is gone, safe on this disk, handed in, or kept as evidence.

Before anybody is told, everything that is told is on disk: how the attempt ended and, of a completed one, the whole
bundle. So a result waits for a coordinator as long as need be, and the loss of power at any moment leaves either a
result that is whole or none, and then the truth is told.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import structlog
from pydantic import JsonValue, ValidationError

from fleet_agent import endings, program
from fleet_agent.bundle import Bundle, make_bundle
from fleet_agent.checkpoints import Checkpoints
from fleet_agent.durable import sync
from fleet_agent.state import AttemptFolder, Outcome
from fleet_agent.surroundings import Surroundings
from fleet_agent.threads import Watch, in_thread
from fleet_agent.transfers import upload
from fleet_agent.uplink import Refused
from fleet_protocol.archive import NotArchived
from fleet_protocol.capability import Capability
from fleet_protocol.errors import Code
from fleet_protocol.ids import Sha256
from fleet_protocol.jobs import Metric
from fleet_protocol.states import FailureKind, ReleaseReason
from fleet_protocol.version import program_version
from fleet_protocol.workers import CompleteRequest, FailRequest, ReleaseRequest

log = structlog.get_logger()
METRICS_BYTES = 1 << 20
MOST_METRICS, NAME_CHARS = 200, 80  # as the wire takes them
TRIES = 3


class Results:
    """That of one attempt."""

    def __init__(self, folder: AttemptFolder, around: Surroundings, checkpoints: Checkpoints) -> None:
        self._folder = folder
        self._around = around
        self._checkpoints = checkpoints
        self._is_rebooted = folder.record.boot_id != around.boot_id
        self._log = log.bind(job=folder.job.job_id, attempt=folder.attempt)

    # How it ended

    async def judge(self, status: int | None) -> Outcome:
        """From the trainer's exit status; None: it was never recorded. OSError."""
        order = self._folder.stop_order()
        if order is not None and endings.is_release(status, order):
            if order.reason is ReleaseReason.DRAINED:
                await self._checkpoints.bring_last(is_whole=status == endings.CHECKPOINTED)
            return self.released(order.reason, order.detail)
        if status == endings.DONE and not self._is_rebooted:
            return await self._completed()
        if order is not None and order.is_timeout:
            return self.failed(FailureKind.ERROR, order.detail, status)
        disk_full = self._around.spools.disk.reserve.is_needed
        tail = endings.read_tail(self._folder["log"])
        kind, reason = endings.failure(status, tail, rebooted=self._is_rebooted, disk_full=disk_full)
        return self.failed(kind, reason, status)

    async def _completed(self) -> Outcome:
        try:
            artifact = await in_thread(self._pack, self._around.uplink.moves)
        except program.OutputMissing as error:
            return self.failed(FailureKind.ERROR, str(error), endings.DONE)
        except NotArchived as error:
            reason = f"the output cannot become an artifact: {error}"
            return self.failed(FailureKind.ERROR, reason, endings.DONE)
        return CompleteRequest(
            worker=self._around.worker,
            attempt=self._folder.attempt,
            artifact=artifact,
            metrics=read_metrics(self._folder),
            provenance=provenance(self._around.capability),
        )

    def _pack(self, watch: Watch) -> Sha256:
        """The bundle of what was declared and put out, on disk: from now on it is what counts."""
        declared = self._folder.job.program.outputs if self._folder.job.program else ()
        program.gather(self._folder["work"], declared, self._folder["output"])
        bundle = make_bundle(self._folder["output"], self._folder.bundle, watch)
        sync(bundle.path)
        return bundle.sha256

    def failed(self, kind: FailureKind, reason: str, status: int | None = None) -> FailRequest:
        return FailRequest(
            worker=self._around.worker,
            attempt=self._folder.attempt,
            kind=kind,
            reason=reason[:2000],
            exit_code=status,
            tail=endings.read_tail(self._folder["log"]),
        )

    def released(self, reason: ReleaseReason, detail: str) -> ReleaseRequest:
        return ReleaseRequest(
            worker=self._around.worker, attempt=self._folder.attempt, reason=reason, detail=detail[:2000]
        )

    # To the coordinator

    async def owe(self, outcome: Outcome, log_bytes: int | None) -> Outcome:
        """Write down what is to be told. OSError."""
        outcome = outcome.model_copy(update={"log_bytes": log_bytes})
        await in_thread(lambda _: self._folder.owe(outcome))
        return outcome

    async def bring(self, outcome: Outcome, tries: int = TRIES) -> Outcome:
        """Upload the bundle of a completed attempt; what is owed afterwards. OSError."""
        if not isinstance(outcome, CompleteRequest):
            return outcome
        try:
            await self._upload(outcome.artifact)
        except Refused as refusal:
            is_damaged = refusal.problem.code == Code.DIGEST_MISMATCH
            if (
                is_damaged and tries > 1 and not self._is_rebooted
            ):  # on the way, or on the disk: it is made anew
                anew = await self._completed()
            else:
                kind = FailureKind.INFRASTRUCTURE if is_damaged else FailureKind.ERROR
                anew = self.failed(kind, f"the artifact was refused: {refusal}", endings.DONE)
            return await self.bring(await self.owe(anew, outcome.log_bytes), tries - 1)
        return outcome

    async def _upload(self, sha256: Sha256) -> None:
        bundle = Bundle(self._folder.bundle, sha256, self._folder.bundle.stat().st_size)
        path = f"/v1/model/{sha256}?attempt={self._folder.attempt}"
        uplink = self._around.uplink
        await uplink.persist("upload an artifact", lambda: upload(uplink, bundle, path))

    async def report(self, outcome: Outcome, tries: int = TRIES) -> bool:
        """Until the coordinator took it, or somebody else's; False: it was refused for good, and is kept. OSError."""
        uplink, job = self._around.uplink, self._folder.job
        try:
            answer = await uplink.persist("report a result", lambda: uplink.report(job.job_id, outcome))
        except Refused as refusal:
            if refusal.problem.code == Code.ARTIFACT_MISSING and tries > 1:
                return await self.report(await self.bring(outcome), tries - 1)
            if not refusal.is_superseded:
                kept = self._folder.keep()
                self._log.error(
                    f"the coordinator refused a result, it is kept in {kept}: {refusal}", action="result_kept"
                )
                return False
            self._log.warning(f"the result came too late: {refusal}", action="result_superseded")
        else:
            why = f" ({outcome.reason})" if isinstance(outcome, FailRequest) else ""
            self._log.info(f"{job.name}: {answer.status}{why}", action="job_reported", status=answer.status)
        with contextlib.suppress(OSError):  # a full disk: then it is told twice, and gets the same answer
            self._folder.note_reported()
        return True


def read_metrics(folder: AttemptFolder) -> dict[str, Metric]:
    """output/metrics.json's `metrics`, in its order. What is no metric is left out, which the log's last line says."""
    metrics: dict[str, Metric] = {}
    wrong: list[str] = []
    for name, row in _rows(folder, wrong).items():
        try:
            if len(name) > NAME_CHARS or not name.isprintable() or len(metrics) == MOST_METRICS:
                raise ValueError(
                    f"at most {MOST_METRICS} names of {NAME_CHARS} printable characters are kept"
                )
            metrics[name] = Metric.model_validate(
                {key: value for key, value in row.items() if value is not None}
            )
        except ValidationError as error:
            said = error.errors(include_url=False, include_input=False)[0]["msg"]
            wrong.append(f"{name[:NAME_CHARS]!r}: {said}")
        except (ValueError, AttributeError) as error:
            wrong.append(f"{name[:NAME_CHARS]!r}: {error}")
    if wrong:
        told = f"{len(wrong)} of metrics.json left out: {wrong[0]}"
        log.warning(f"{folder.job.name}: {told}", action="metrics_unreadable", attempt=folder.attempt)
        with contextlib.suppress(OSError):  # it is no part of the result
            _append(folder["log"], f"fleet: {told}")
    return metrics


def _append(path: Path, text: str) -> None:
    """One last line, and no second one where a result is made anew."""
    line = f"{text}\n".encode()
    with path.open("ab+") as file:
        file.seek(max(0, file.tell() - len(line)))
        end = file.read()
        if end != line:
            file.write(line if end.endswith(b"\n") or not end else b"\n" + line)


def _rows(folder: AttemptFolder, wrong: list[str]) -> dict[str, dict[str, JsonValue]]:
    try:
        with folder["output/metrics.json"].open("rb") as file:
            table = json.loads(file.read(METRICS_BYTES))["metrics"]
        if isinstance(table, dict):
            return table
        wrong.append('"metrics" is no table')
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        wrong.append(f"{type(error).__name__}: {error}")
    return {}


def provenance(capability: Capability) -> dict[str, str | int | float | bool | None]:
    """Which machine and versions made an artifact; kept beside it, never inside."""
    told = capability.model_dump(
        include={
            *("hostname", "os", "cores", "ram_gib", "cpu"),
            *("python", "torch", "trainer", "git_commit", "git_dirty"),
        }
    )
    gpus = ", ".join(gpu.name for gpu in capability.gpus) or None
    return {"fleet": program_version(), **told, "gpus": gpus}
