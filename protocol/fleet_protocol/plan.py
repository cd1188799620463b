"""What a manifest would change, and what it changed: the same words for plan and reload."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from fleet_protocol.ids import WireJobId, WireSha256
from fleet_protocol.states import JobStatus
from fleet_protocol.wire import Answer, Request, Time

MAX_MANIFEST_CHARS = 4 * 1024 * 1024


class Category(StrEnum):
    """Where a job stands against the manifest; each job is in exactly one."""

    NEW = "new"
    PENDING = "pending"
    RUNNING = "running"
    TRAINED = "trained"
    FAILED = "failed"
    CANCELLED = "cancelled"
    CHANGED = "changed"  # a new job by a name that the manifest gave to another one before
    REMOVED = "removed"


class ReloadRequest(Request):
    """A manifest's text, or nothing: then the coordinator reads its own file."""

    toml: Annotated[str, Field(max_length=MAX_MANIFEST_CHARS)] | None = None
    file: Annotated[str, Field(max_length=1000)] | None = None
    blobs: dict[Annotated[str, Field(max_length=4000)], WireSha256] | None = None
    """Digest of each dataset and source that the text names, by its path as written."""


class PlanEntry(Answer):
    job_id: WireJobId
    name: str
    model: str
    mode: str
    category: Category
    status: JobStatus | None = None
    replaces: WireJobId | None = None
    """Of a changed one: the job that had its name."""
    differs: tuple[str, ...] = ()
    """Of a changed one: the keys in which it differs from the job it replaces."""
    other_code: bool = False
    """Trained, but by another version of the trainer or another command than would train it now."""
    scheduling_changed: bool = False
    unsatisfiable: str | None = None
    """Why no known worker can ever take it; None while no worker is known or one can."""


class Plan(Answer):
    """Every job of the manifest and every known job that it no longer names."""

    fleet: str
    file: str
    changed: bool
    """False: applying it writes nothing."""
    entries: tuple[PlanEntry, ...]

    def count(self, category: Category) -> int:
        return sum(entry.category is category for entry in self.entries)


class CurrentManifest(Answer):
    """The manifest that was applied last, as it was written."""

    fleet: str
    file: str
    digest: str
    toml: str
    applied_at: Time
