"""What an agent must still know after it was killed: who it is, what it asked for, what runs, what it owes.

STATE/  lock, worker (its UUID, and where that was made), claim (an id sent but not answered yet),
        credential (see credential.py), heard (when a coordinator last took a hello of ours, and which)
  attempts/UUID/  attempt.json, job.json (what the trainer reads), log, lock, pid, exit, work/, output/,
                  checkpoint/, tmp/, events.jsonl, times.json, deadline and unheard.json (for the supervisor
                  of an exclusive one), stop.json, result.json (owed), reported (it was taken)
  blobs/, datasets/  what was pulled, see blobs.py
  kept/UUID/      attempts that the coordinator does not know: a result is never thrown away on its word
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, ValidationError

from fleet_agent import locks
from fleet_agent.durable import sync, sync_folder, write_durably, write_whole
from fleet_agent.errors import AgentError
from fleet_protocol.ids import AttemptId, Sha256, WorkerId, new_worker_id
from fleet_protocol.jobs import JobSpec
from fleet_protocol.states import ReleaseReason
from fleet_protocol.workers import ClaimAnswer, CompleteRequest, FailRequest, ReleaseRequest

LOCK_VARIABLE = "FLEET_AGENT_LOCK"
"""Tells the program that takes this one's place which descriptor holds the lock."""

AnyModel = TypeVar("AnyModel", bound=BaseModel)
Outcome = CompleteRequest | FailRequest | ReleaseRequest


class Record(BaseModel):
    """attempt.json: what was claimed, and in which life of the machine."""

    model_config = ConfigDict(frozen=True)

    job: JobSpec
    attempt: AttemptId
    number: int
    boot_id: str | None
    lease_seconds: float = 600.0
    checkpoint: Sha256 | None = None
    """A blob that an earlier attempt left, to go on from."""
    devices: tuple[int, ...] = ()
    """CUDA devices that are this attempt's alone; none: it trains on the CPU."""

    @property
    def blobs(self) -> set[Sha256]:
        """What its trainer reads of the cache."""
        found = {self.job.dataset and self.job.dataset.sha256, self.job.program and self.job.program.source}
        return {sha256 for sha256 in found if sha256}


class StopOrder(BaseModel):
    """stop.json: why the trainer was told to end, so that its exit is judged rightly after a restart too."""

    model_config = ConfigDict(frozen=True)

    reason: ReleaseReason
    detail: str
    is_timeout: bool = False
    """The attempt's own fault, and reported as an error."""


class Times(BaseModel):
    """times.json: when the trainer began and was last known to the coordinator, as `limits.since_boot` counts."""

    model_config = ConfigDict(frozen=True)

    began: float
    heard: float
    lease_seconds: float


class Owed(BaseModel):
    """result.json: how the attempt ended, on disk before it is first sent."""

    model_config = ConfigDict(frozen=True)

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class AttemptFolder:
    """One attempt's files."""

    path: Path
    record: Record

    @property
    def attempt(self) -> AttemptId:
        return self.record.attempt

    @property
    def job(self) -> JobSpec:
        return self.record.job

    def __getitem__(self, name: str) -> Path:
        return self.path / name

    @property
    def bundle(self) -> Path:
        return self["bundle.tar.zst"]

    def prepare(self) -> None:
        """What the trainer finds: the job as JSON and empty folders (a checkpoint folder may be filled)."""
        for name in ("work", "output", "checkpoint", "tmp"):
            self[name].mkdir(exist_ok=True)
        fields = (
            "job_id",
            "name",
            "model",
            "mode",
            "hyper",
            "split_recipe",
            "train_hosts",
            "seed",
            "n_resamples",
            "dataset",
        )
        job = self.job.model_dump(mode="json", include=set(fields))
        self["job.json"].write_text(json.dumps({"schema": 1, **{key: job[key] for key in fields}}, indent=1))

    def stop_order(self) -> StopOrder | None:
        return _read(StopOrder, self["stop.json"])

    def note_stop(self, order: StopOrder) -> None:
        if not self["stop.json"].exists():
            write_durably(self["stop.json"], order.model_dump_json())

    def times(self) -> Times | None:
        return _read(Times, self["times.json"])

    def note_times(self, times: Times) -> None:
        """Whole whenever it is read, but not synced: a trainer does not outlive its machine either."""
        write_whole(self["times.json"], times.model_dump_json())

    def prepare_end(self, order: StopOrder) -> None:
        """What the supervisor makes the stop order, should it have to end the trainer by itself."""
        self["unheard.json"].write_text(order.model_dump_json())

    def note_deadline(self, uptime: int, look: int) -> None:
        write_whole(self["deadline"], f"{uptime} {look}\n")

    def owed(self) -> Outcome | None:
        owed = _read(Owed, self["result.json"])
        return owed.outcome if owed else None

    def owe(self, outcome: Outcome) -> None:
        write_durably(self["result.json"], Owed(outcome=outcome).model_dump_json())

    @property
    def is_reported(self) -> bool:
        """The coordinator took the result; only log bytes may be missing there."""
        return self["reported"].exists()

    def note_reported(self) -> None:
        """Not synced: whoever reports again gets the same answer."""
        self["reported"].touch()

    def remove(self) -> None:
        # The record goes first: a half-removed folder is nobody's attempt any more.
        self["attempt.json"].unlink(missing_ok=True)
        shutil.rmtree(self.path, ignore_errors=True)

    def keep(self) -> Path:
        """Set aside as evidence; returns where it is now."""
        kept = self.path.parent.parent / "kept"
        kept.mkdir(mode=0o700, exist_ok=True)
        return self.path.rename(kept / self.path.name)


def _read(model: type[AnyModel], path: Path) -> AnyModel | None:
    try:
        return model.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


class StateFolder:
    """The agent's own folder, locked: one agent at a time.

    `moved`: it is not where its identity was made, but on another machine or in another folder. It may have been
    moved, or be a copy of one that is in use; only the coordinator can tell.
    """

    def __init__(self, root: Path) -> None:
        """Create or open it. AgentError when another agent uses it or it cannot be written."""
        self.root = root = root.absolute()  # trainers run elsewhere and are told paths in here
        self._attempts = root / "attempts"
        self._lock: int | None = None
        try:
            self._attempts.mkdir(parents=True, exist_ok=True, mode=0o700)
            root.chmod(0o700)
            self._lock = self._inherited() or locks.take(root / "lock")
            if self._lock is None:
                raise AgentError(
                    f"Another agent runs on {root}; end it, or give this one its own --state folder."
                )
            self.worker, self.moved = self._identity()
        except OSError as error:
            self.close()
            raise AgentError(
                f"The state folder {root} cannot be used: {error.strerror}. Name another by --state."
            ) from None
        self.incarnation = str(uuid4())

    def close(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def hand_over(self) -> None:
        """Leave the lock to the program that takes this one's place: nobody can have it in between."""
        assert self._lock is not None
        os.set_inheritable(self._lock, True)
        os.environ[LOCK_VARIABLE] = str(self._lock)
        self._lock = None

    def _inherited(self) -> int | None:
        handle = os.environ.pop(LOCK_VARIABLE, "")
        return locks.inherited(self.root / "lock", int(handle)) if handle.isdecimal() else None

    def _identity(self) -> tuple[WorkerId, bool]:
        with contextlib.suppress(FileNotFoundError):
            known, _, made = (self.root / "worker").read_text().strip().partition("\n")
            if known:
                return WorkerId(known), made != self._place()
        return self._settle(new_worker_id()), False

    def settle(self) -> None:
        """The coordinator knows nobody else of this identity: this is its place from now on."""
        if self.moved:
            self._settle(self.worker)
            self.moved = False

    def note_heard(self, server: str, now: datetime) -> None:
        """A coordinator knows us, by the token that it was shown. What installs a service waits for this."""
        with contextlib.suppress(OSError):  # a full disk must not keep an agent from its trainers
            write_whole(self.root / "heard", f"{server}\n{now.isoformat()}\n")

    def become_another(self) -> None:
        """This is a copy of a folder in use: what is in it is somebody else's, and so is the identity."""
        for folder in self.attempts():
            folder.keep()
        self.settle_claim()
        self.worker, self.moved = self._settle(new_worker_id()), False

    def _settle(self, worker: WorkerId) -> WorkerId:
        write_durably(self.root / "worker", f"{worker}\n{self._place()}\n")
        return worker

    def _place(self) -> str:
        """Tells this folder on this machine from any copy of it."""
        machine = ""
        with contextlib.suppress(OSError):
            machine = Path("/etc/machine-id").read_text().strip()
        told = f"{machine} {platform.node()} {self.root.stat().st_ino}"
        return hashlib.sha256(told.encode()).hexdigest()[:32]

    def pending_claim(self) -> str | None:
        """The id of a claim that may have been granted without our hearing of it."""
        with contextlib.suppress(FileNotFoundError):
            return (self.root / "claim").read_text().strip() or None
        return None

    def new_claim(self) -> str:
        """An id that is on disk before it is sent: asking again with it gives the same answer."""
        claim = str(uuid4())
        write_durably(self.root / "claim", claim)
        return claim

    def settle_claim(self, granted: AttemptId | None = None) -> None:
        """Its answer is known; the record of what was granted is on disk first. OSError."""
        if granted is not None:
            path = self._attempts / granted
            with contextlib.suppress(FileNotFoundError):  # over and removed by now
                sync(path / "attempt.json")
                sync_folder(path)
                sync_folder(self._attempts)
        (self.root / "claim").unlink(missing_ok=True)

    def admit(
        self, answer: ClaimAnswer, boot: str | None, devices: tuple[int, ...] = ()
    ) -> AttemptFolder | None:
        """A folder for a granted claim, or None when this attempt has one already. `settle_claim` is to follow.

        The trainer need not wait for the disk: what a power cut leaves of the record is none, the trainer is gone
        too, and the claim's id, which is on disk until then, brings the same answer again.
        """
        path = self._attempts / answer.attempt
        if _read(Record, path / "attempt.json") is not None:
            return None
        path.mkdir(mode=0o700, exist_ok=True)
        record = Record(
            job=answer.job,
            attempt=answer.attempt,
            number=answer.number,
            boot_id=boot,
            lease_seconds=answer.lease_seconds,
            checkpoint=answer.checkpoint,
            devices=devices,
        )
        try:
            (path / "attempt.json").write_text(record.model_dump_json(), encoding="utf-8")
        except OSError:  # or the same answer would find it, and nobody would train it
            shutil.rmtree(path, ignore_errors=True)
            raise
        return AttemptFolder(path, record)

    def attempts(self) -> list[AttemptFolder]:
        """Every attempt on disk, oldest first; what has no readable record never began and is removed."""
        found = []
        for path in sorted(self._attempts.iterdir(), key=lambda path: path.stat().st_mtime):
            record = _read(Record, path / "attempt.json")
            if record is None:
                shutil.rmtree(path, ignore_errors=True)
            else:
                found.append(AttemptFolder(path, record))
        return found
