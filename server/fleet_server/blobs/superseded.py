"""A checkpoint goes as soon as its job goes on from a newer one, or is done: hundreds would come in a long training."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import structlog

from fleet_protocol.ids import JobId, Sha256
from fleet_server.blobs.service import Blobs
from fleet_server.database import EventRow

log = structlog.get_logger()


class Superseded:
    """Told of every change to a job; what a crash keeps it from deleting is left to pruning."""

    def __init__(self, blobs: Blobs, checkpoints: Mapping[JobId, Sha256]) -> None:
        self._blobs = blobs
        self._checkpoints = dict(checkpoints)
        self._left: asyncio.Queue[Sha256] = asyncio.Queue()

    def on_commit(self, events: Sequence[EventRow]) -> None:
        for event in events:
            if event.job is None:
                continue
            before = self._checkpoints.pop(event.job.job_id, None)
            if event.job.checkpoint is not None:
                self._checkpoints[event.job.job_id] = event.job.checkpoint
            if before is not None and before != event.job.checkpoint:
                self._left.put_nowait(before)

    async def run(self) -> None:
        """Until cancelled: delete what was left behind, unless another job needs it."""
        while True:
            sha256 = await self._left.get()
            try:
                await self._blobs.remove(sha256)
            except OSError as error:
                log.warning("checkpoint_not_deleted", sha256=sha256, why=error.strerror)
