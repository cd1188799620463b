"""Everything that a trainer finds when it starts: its source, its data, the checkpoint it goes on from, its command."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from fleet_agent import program
from fleet_agent.blobs import BlobCache, Unobtainable
from fleet_agent.bundle import unpack_bundle
from fleet_agent.environment import trainer_environment
from fleet_agent.program import NoProgram, Unusable
from fleet_agent.settings import Settings
from fleet_agent.state import AttemptFolder
from fleet_agent.threads import in_thread
from fleet_agent.transfers import Told
from fleet_protocol.archive import NotArchived, unpack_archive
from fleet_protocol.ids import Sha256
from fleet_protocol.states import FailureKind

log = structlog.get_logger()
PERCENT = 100
CHECKPOINT_FILE = "checkpoint.tar.zst"

Say = Callable[[str], None]
"""Told in a few words what is under way."""


class Unprepared(Exception):
    """The trainer cannot be started here."""

    def __init__(self, kind: FailureKind, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Launch:
    """What to start, and with which environment."""

    command: list[str]
    environment: dict[str, str]


async def prepare(folder: AttemptFolder, settings: Settings, cache: BlobCache, say: Say) -> Launch:
    """Bring everything here. Unprepared says why that cannot be."""
    job = folder.job
    try:
        if job.program and not settings.runs_commands:
            raise Unobtainable("this host does not run the manifest's own programs (--allow-commands)")
        program.check(job)
        folder.prepare()
        if job.program and job.program.source:
            await _source(job.program.source, folder["work"], cache, say)
        data = settings.data and settings.data.absolute()
        if job.dataset:
            told = _percent(say, f"pulling data set {job.dataset.name}")
            data = await _obtain(f"data set {job.dataset.name}", cache.content(job.dataset.sha256, told))
        if folder.record.checkpoint:
            await _checkpoint(folder.record.checkpoint, folder, cache, say)
        environment = trainer_environment(folder, settings, data)
        command = program.command_of(job, settings.python, environment)
        program.require(command[0], folder["work"], environment)
    except Unusable as error:
        raise Unprepared(FailureKind.REFUSED, str(error)) from None
    except Unobtainable as error:
        raise Unprepared(FailureKind.DATA, str(error)) from None
    except (
        NoProgram
    ) as error:  # a wrong --python is this machine's fault; what a manifest names, others may have
        kind = FailureKind.DATA if job.program else FailureKind.INFRASTRUCTURE
        raise Unprepared(kind, f"the trainer cannot be started: {error}") from None
    except OSError as error:
        why = f"the trainer cannot be started: {error}"
        raise Unprepared(FailureKind.INFRASTRUCTURE, why) from None
    return Launch(command, environment)


async def _source(sha256: Sha256, work: Path, cache: BlobCache, say: Say) -> None:
    archive = await _obtain("the program's source", cache.file(sha256, _percent(say, "pulling the program")))
    try:
        with archive.open("rb") as file:
            await in_thread(lambda watch: unpack_archive(watch(file), work))
        await asyncio.to_thread(program.make_runnable, work)
    except NotArchived as error:
        raise Unobtainable(f"the program's source cannot be unpacked: {error}") from None


async def _checkpoint(sha256: Sha256, folder: AttemptFolder, cache: BlobCache, say: Say) -> None:
    """Training anew is better than not at all: without the checkpoint it begins at the beginning."""
    packed = folder[CHECKPOINT_FILE]
    try:
        await cache.pass_on(sha256, packed, _percent(say, "pulling the checkpoint"))
        with packed.open("rb") as file:
            await in_thread(lambda watch: unpack_bundle(file, folder["checkpoint"], watch))
    except (Unobtainable, NotArchived) as error:
        log.warning(
            f"{folder.job.name} starts over: its checkpoint cannot be had: {error}", action="starts_over"
        )
        shutil.rmtree(folder["checkpoint"])
        folder["checkpoint"].mkdir()
    finally:
        packed.unlink(missing_ok=True)


async def _obtain(what: str, pulling: Awaitable[Path]) -> Path:
    try:
        return await pulling
    except Unobtainable as error:
        raise Unobtainable(f"{what} cannot be had here: {error}") from None


def _percent(say: Say, what: str) -> Told:
    """How far a transfer is, in words, once for each percent."""
    say(what)
    return lambda done, total: say(f"{what} {PERCENT * done // max(total, 1)} %")
