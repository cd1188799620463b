"""What failed where: the table that tells a bad job from a bad machine, and what to change in the manifest."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from fleet_protocol.capability import Capability
from fleet_protocol.ids import JobId, WorkerId
from fleet_protocol.workers import FailureCount

OUT_OF_MEMORY = ("CUDA out of memory", "torch.OutOfMemoryError", "CUDA error: out of memory")


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    worker_id: WorkerId
    job_id: JobId
    name: str
    reason: str | None
    tail: str | None

    @property
    def is_out_of_memory(self) -> bool:
        said = f"{self.reason or ''}\n{self.tail or ''}"
        return any(words in said for words in OUT_OF_MEMORY)


def by_worker(failed: Iterable[FailedAttempt]) -> dict[WorkerId, list[list[FailedAttempt]]]:
    """Each worker's failed attempts by job, the job that failed most often first; newest attempt first."""
    grouped: dict[WorkerId, dict[JobId, list[FailedAttempt]]] = defaultdict(lambda: defaultdict(list))
    for attempt in failed:
        grouped[attempt.worker_id][attempt.job_id].append(attempt)
    return {worker: sorted(jobs.values(), key=len, reverse=True) for worker, jobs in grouped.items()}


def count(attempts: list[FailedAttempt], capability: Capability) -> FailureCount:
    """One cell of the table; a GPU out of memory suggests to ask for more than this machine's largest has."""
    last = attempts[0]
    suggestion = None
    if capability.vram_gib and any(attempt.is_out_of_memory for attempt in attempts):
        suggestion = f"min_vram_gib = {math.floor(capability.vram_gib) + 1}"
    return FailureCount(
        job_id=last.job_id,
        name=last.name,
        count=len(attempts),
        reason=last.reason or "",
        suggestion=suggestion,
    )
