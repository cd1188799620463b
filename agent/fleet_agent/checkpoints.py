"""A trainer's checkpoints, brought to the coordinator, so that the next attempt goes on from them wherever it runs."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from fleet_agent.bundle import Bundle, make_bundle
from fleet_agent.prepare import CHECKPOINT_FILE
from fleet_agent.state import AttemptFolder
from fleet_agent.threads import in_thread
from fleet_agent.transfers import upload
from fleet_agent.uplink import Refused, Uplink
from fleet_protocol.archive import NotArchived
from fleet_protocol.ids import Sha256, WorkerId
from fleet_protocol.workers import CheckpointRequest

log = structlog.get_logger()

State = frozenset[tuple[str, int, int, int]]


class Checkpoints:
    """Those of one attempt. `announced` counts how often its trainer said that it had written one.

    A folder in which nothing changed for `quiet` seconds holds whole files.
    """

    def __init__(
        self,
        folder: AttemptFolder,
        uplink: Uplink,
        worker: WorkerId,
        announced: Callable[[], int],
        *,
        quiet: float,
    ) -> None:
        self._folder = folder
        self._place = folder["checkpoint"]
        self._uplink = uplink
        self._worker = worker
        self._announced = announced
        self._quiet = quiet
        self._brought: Sha256 | None = folder.record.checkpoint
        self._seen: State = frozenset()
        """The files as they were when last brought."""

    async def run(self, every: float) -> None:
        """Bring what is new, every so many seconds, until cancelled."""
        while True:
            await asyncio.sleep(every)
            await self._until_whole()
            await self.bring()

    async def _until_whole(self) -> None:
        """Return when there is something new that nobody writes to, or that the trainer has just called whole."""
        files: State | None = None
        while True:
            announced = self._announced()
            await asyncio.sleep(self._quiet)
            before, files = files, state(self._place)
            if files and files != self._seen and (files == before or self._announced() > announced):
                return

    async def bring_last(self, *, is_whole: bool) -> None:
        """After the trainer's end. Unless it said that it left a checkpoint, only what was long written counts."""
        last = max((changed for _, _, changed, _ in state(self._place)), default=0)
        if is_whole or time.time_ns() - last > self._quiet * 1e9:
            await self.bring()

    async def bring(self) -> None:
        """Bring the files as they are; not what is there already, and nothing where they change meanwhile."""
        files = state(self._place)
        if not files or files == self._seen:
            return
        try:
            bundle = await in_thread(
                lambda watch: make_bundle(self._place, self._folder[CHECKPOINT_FILE], watch),
                self._uplink.moves,
            )
            if state(self._place) == files and (bundle.sha256 == self._brought or await self._tell(bundle)):
                self._seen, self._brought = files, bundle.sha256
        except (
            OSError,
            NotArchived,
        ) as error:  # most likely a file that went while it was read, or a full disk
            log.warning(f"a checkpoint cannot be packed: {error}", action="checkpoint_unpacked")
        finally:
            self._folder[CHECKPOINT_FILE].unlink(missing_ok=True)

    async def _tell(self, bundle: Bundle) -> bool:
        uplink, attempt = self._uplink, self._folder.attempt
        body = CheckpointRequest(worker=self._worker, sha256=bundle.sha256)
        try:
            await uplink.persist(
                "upload a checkpoint", lambda: upload(uplink, bundle, f"/v1/blob/{bundle.sha256}")
            )
            await uplink.persist("tell of a checkpoint", lambda: uplink.checkpoint(attempt, body))
        except Refused as refusal:
            log.warning(f"a checkpoint was refused: {refusal}", action="checkpoint_refused", attempt=attempt)
            return False
        log.info(
            f"{self._folder.job.name}: checkpoint stored", action="checkpointed", bytes=bundle.size_bytes
        )
        return True


def state(folder: Path) -> State:
    """What shows a change of any file; empty where there is none."""
    found = set()
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            try:
                about = path.lstat()
            except FileNotFoundError:
                continue
            found.add((str(path), about.st_size, about.st_mtime_ns, about.st_ino))
    return frozenset(found)
