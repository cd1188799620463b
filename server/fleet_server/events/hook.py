"""Runs the operator's command, once for each job that failed for good.

How far it came is kept in DATA/on_failure: the id of the last event that it dealt with, written once the command ended.
So a restart repeats nothing that was told and misses nothing that came meanwhile; only a coordinator that ends while
the command runs will run it again for that event, whose id is in what it reads. Where no command is set nothing is
kept: whoever sets one hears of what fails from then on, not of a past that others looked after.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import structlog

from fleet_protocol.events import Event
from fleet_protocol.jobs import JobView
from fleet_server.database import Database
from fleet_server.events.feed import Feed
from fleet_server.events.queries import failures_between

log = structlog.get_logger()
PATIENCE_SECONDS = 30.0
LOOK_SECONDS, RETRY_SECONDS = 3600.0, 5.0
BATCH = 100


@dataclass(slots=True)
class FailureHook:
    """One after the other, in the order of the history; a command that fails or hangs is only logged."""

    database: Database
    feed: Feed
    command: tuple[str, ...]
    note: Path
    patience: float = PATIENCE_SECONDS

    async def run(self) -> None:
        if not self.command:
            self.note.unlink(missing_ok=True)
            await asyncio.Event().wait()  # for ever: a loop that returned would count as broken
        cursor = self._recall()
        self._remember(cursor)
        while not self.feed.closing:
            try:
                cursor = await self._catch_up(cursor)
            except Exception:  # outermost: the loop outlives one bad look, or no failure is ever told again
                log.exception("on_failure_failed")
                await asyncio.sleep(RETRY_SECONDS)
            await self.feed.wait_beyond(cursor, LOOK_SECONDS)

    async def _catch_up(self, cursor: int) -> int:
        while cursor < (last := self.feed.last):
            async with self.database.read() as connection:
                failed = await failures_between(connection, cursor, last, BATCH)
            for event in failed:
                if event.job is not None:
                    await self._tell(event, event.job)
                self._remember(event.event)
            cursor = failed[-1].event if len(failed) == BATCH else last
        return cursor

    async def _tell(self, event: Event, job: JobView) -> None:
        told = {"FLEET_JOB_ID": job.job_id, "FLEET_JOB_NAME": job.name, "FLEET_REASON": job.reason or ""}
        try:
            status = await self._run(event.model_dump_json(), told)
        except OSError as error:
            log.warning("on_failure_not_started", job=job.job_id, command=self.command[0], why=str(error))
        else:
            if status != 0:
                log.warning("on_failure_ended_badly", job=job.job_id, command=self.command[0], status=status)

    async def _run(self, told: str, variables: dict[str, str]) -> int | None:
        """Its exit status; None when it took too long and was ended."""
        child = await asyncio.create_subprocess_exec(
            *self.command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            env=os.environ | variables,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(self.patience):
                await child.communicate(told.encode())
            return child.returncode
        except TimeoutError:
            return None
        finally:
            if child.returncode is None:
                _kill(child)
                await child.wait()

    def _recall(self) -> int:
        """Where to go on: the end, for who begins, or meets the history of another database."""
        try:
            return min(int(self.note.read_text()), self.feed.last)
        except (OSError, ValueError):
            return self.feed.last

    def _remember(self, cursor: int) -> None:
        draft = self.note.with_name(self.note.name + ".tmp")
        try:
            draft.write_text(f"{cursor}\n")
            draft.replace(self.note)
        except OSError as error:  # a full disk: then one that was told is told again after a restart
            log.warning("on_failure_not_noted", event=cursor, why=error.strerror)


def _kill(child: asyncio.subprocess.Process) -> None:
    """With whatever it started."""
    if sys.platform == "win32":
        child.kill()
    else:
        os.killpg(child.pid, signal.SIGKILL)
