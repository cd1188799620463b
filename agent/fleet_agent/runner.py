"""One attempt's life: start, watch, hand in what came of it, and leave nothing behind.

Every step can be begun again from the attempt's folder alone, which is how an agent that was killed goes on
with what another one started.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import TypeVar

import structlog

from fleet_agent.checkpoints import Checkpoints
from fleet_agent.curves import Curves
from fleet_agent.heartbeat import Heartbeat
from fleet_agent.limits import Limits
from fleet_agent.prepare import Launch, Unprepared, prepare
from fleet_agent.process import Trainer
from fleet_agent.progress import TrainerEvents
from fleet_agent.results import Results
from fleet_agent.spool import Spool
from fleet_agent.state import AttemptFolder, Outcome, StopOrder
from fleet_agent.surroundings import Surroundings
from fleet_agent.uplink import Refused
from fleet_protocol.jobs import Progress
from fleet_protocol.states import FailureKind, ReleaseReason
from fleet_protocol.workers import FailRequest, HeartbeatRequest, StartRequest

log = structlog.get_logger()
T = TypeVar("T")
DISK_RETRY_SECONDS = 10.0
START_PATIENCE_SECONDS = 1.0


class AttemptRun:
    """Drives one attempt to its end. `begin` starts its trainer; otherwise what is on disk is taken up."""

    def __init__(
        self, folder: AttemptFolder, around: Surroundings, *, begin: bool, on_gone: Callable[[], None]
    ) -> None:
        """`on_gone` is called once a trainer that lived, or was to begin, is no more."""
        self.folder = folder
        self._around = around
        self._begin = begin
        self._on_gone = on_gone
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self.trainer_gone = asyncio.Event()
        self._limits = Limits(folder, around.clock, around.settings.grace)
        self.events = TrainerEvents(folder["events.jsonl"])
        self._curves = Curves(
            around.uplink, around.worker, folder.attempt, self.events, seconds=around.timing.progress
        )
        self._checkpoints = Checkpoints(
            folder,
            around.uplink,
            around.worker,
            lambda: self.events.checkpoints,
            quiet=around.timing.quiet,
        )
        self._results = Results(folder, around, self._checkpoints)
        self._log = log.bind(job=folder.job.job_id, attempt=folder.attempt)
        if not begin and not around.processes.find(folder.path).is_alive:
            self.trainer_gone.set()
        if folder.stop_order() is not None:  # an earlier agent may have died between the order and the signal
            self._stop.set()

    @property
    def is_training(self) -> bool:
        return not self.trainer_gone.is_set()

    def stop(self, order: StopOrder) -> None:
        """Ask the trainer to end. The first order stands."""
        if self.is_training and not self._stop.is_set():
            self._log.info(
                f"stopping {self.folder.job.name}: {order.detail}", action="job_stopping", reason=order.reason
            )
            with contextlib.suppress(OSError):  # a full disk must not keep a trainer from being stopped
                self.folder.note_stop(order)
            self._stop.set()

    def stop_as_told(self, why: str) -> None:
        self.stop(StopOrder(reason=ReleaseReason.STOPPED, detail=why))

    def hurry(self) -> None:
        """No more grace: SIGKILL."""
        self._hurry.set()

    def look(self) -> None:
        """End the trainer if its time or its lease is up."""
        if order := self._limits.overdue():
            self.stop(order)
        if self._limits.is_out_of_lease:
            self.hurry()

    async def run(self) -> None:
        """Until the result is reported, its log is sent, and its folder is gone."""
        spool = self._around.spools.follow(self.folder.attempt, self.folder["log"])
        try:
            async with asyncio.TaskGroup() as group:
                telling = group.create_task(self._curves.run())
                if not self.folder.is_reported:
                    await self._until_reported(spool)
                self._close(spool)
                await self._until_told(spool)
                telling.cancel()
            await asyncio.to_thread(self.folder.remove)
        finally:
            self._around.spools.forget(spool)

    def _note_gone(self) -> None:
        """The trainer is no more."""
        if self.is_training:
            self.trainer_gone.set()
            self._on_gone()
        self._curves.close()

    def _close(self, spool: Spool) -> None:
        """Nothing is written any more, not by us either."""
        self._note_gone()
        self._around.spools.close(spool)

    async def _until_told(self, spool: Spool) -> None:
        await spool.over.wait()
        await self._curves.over.wait()

    async def _until_reported(self, spool: Spool) -> None:
        async with asyncio.TaskGroup() as group:
            beating = group.create_task(self._heartbeat().run())
            outcome = await self._until_settled(spool)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._around.timing.log_patience):
                    await self._until_told(spool)
            if not await self._results.report(outcome):
                spool.over.set()
                self._curves.over.set()
            beating.cancel()

    def _heartbeat(self) -> Heartbeat:
        around = self._around
        return Heartbeat(
            around.uplink,
            around.pace,
            self.folder.job.job_id,
            HeartbeatRequest(worker=around.worker, attempt=self.folder.attempt),
            self.events,
            meter=around.meter,
            limits=self._limits,
            on_stop=self.stop_as_told,
        )

    # The trainer

    async def _until_settled(self, spool: Spool) -> Outcome:
        while True:
            try:
                return await self._settled(spool)
            except OSError as error:  # most likely a full disk; the folder says how far we came
                self._log.error(f"the state folder fails, trying again: {error}", action="state_failed")
                await asyncio.sleep(DISK_RETRY_SECONDS)

    async def _settled(self, spool: Spool) -> Outcome:
        """How the attempt ended, on disk before anybody is told; its bundle is with the coordinator."""
        owed = self.folder.owed()
        outcome = owed or await self._train()
        self._close(spool)
        if owed is None:
            outcome = await self._results.owe(outcome, spool.end)
        return await self._results.bring(outcome)

    async def _train(self) -> Outcome:
        trainer = self._around.processes.find(self.folder.path)
        begin, self._begin = self._begin and not self._stop.is_set(), False
        launch = await self._unless_stopped(self._prepare()) if begin else None
        if isinstance(launch, FailRequest):
            return launch
        if launch and self.folder.job.exclusive and not await self._is_ours():
            launch = None
        if launch:
            try:
                trainer = self._start(launch)
            except OSError as error:
                return self._results.failed(
                    FailureKind.INFRASTRUCTURE, f"the trainer cannot be started: {error}"
                )
        elif not trainer.was_started:
            return self._results.released(
                ReleaseReason.NOT_STARTED, "the agent ended before its trainer began"
            )
        await self._watch(trainer)
        self._note_gone()
        return await self._results.judge(trainer.exit_status)

    async def _prepare(self) -> Launch | FailRequest:
        around = self._around
        try:
            return await prepare(self.folder, around.settings, around.cache, self._say)
        except Unprepared as error:
            return self._results.failed(error.kind, str(error))
        finally:
            self._say(None)

    def _say(self, phase: str | None) -> None:
        """What heartbeats tell of an attempt whose trainer has not begun."""
        self.events.latest = Progress(phase=phase) if phase else None

    async def _is_ours(self) -> bool:
        """True once the coordinator took the start, without which it soon hands a claim on. False if stopped first."""
        sent = self._around.clock()
        is_ours = await self._unless_stopped(self._tell_start())
        self._limits.renew(sent)
        return bool(is_ours)

    async def _unless_stopped(self, work: Coroutine[None, None, T]) -> T | None:
        """What comes of `work`; None when the attempt is told to stop first."""
        async with asyncio.TaskGroup() as group:
            working, stopped = group.create_task(work), group.create_task(self._stop.wait())
            await asyncio.wait([working, stopped], return_when=asyncio.FIRST_COMPLETED)
            working.cancel()
            stopped.cancel()
        return None if working.cancelled() else working.result()

    def _start(self, launch: Launch) -> Trainer:
        self._limits.begin()
        trainer = self._around.processes.start(self.folder.path, launch.command, launch.environment)
        self._log.info(
            f"training {self.folder.job.name}",
            action="job_started",
            model=self.folder.job.model,
            pid=trainer.group,
        )
        return trainer

    async def _watch(self, trainer: Trainer) -> None:
        async with asyncio.TaskGroup() as group:
            telling, obeying = group.create_task(self._tell_start()), group.create_task(self._obey(trainer))
            minding = group.create_task(self._mind_limits())
            bringing = group.create_task(self._checkpoints.run(self._around.settings.checkpoint_every))
            await trainer.ended()
            if not self._around.uplink.is_away:  # a job may end before anybody heard of its start
                await asyncio.wait([telling], timeout=START_PATIENCE_SECONDS)
            telling.cancel()
            obeying.cancel()
            minding.cancel()
            bringing.cancel()

    async def _tell_start(self) -> bool:
        """Until it is answered; whether the coordinator took it."""
        body = StartRequest(worker=self._around.worker, attempt=self.folder.attempt)
        uplink, job = self._around.uplink, self.folder.job
        try:
            await uplink.persist("tell that a job started", lambda: uplink.start(job.job_id, body))
        except Refused as refusal:
            if refusal.is_superseded:
                self.stop_as_told(str(refusal))
            else:
                self._log.error(f"the start was refused: {refusal}", action="start_refused")
            return False
        return True

    async def _obey(self, trainer: Trainer) -> None:
        await self._stop.wait()
        await trainer.stop(self._around.settings.grace, self._hurry)

    async def _mind_limits(self) -> None:
        while self._limits.exist:
            self.look()
            await asyncio.sleep(self._limits.look_seconds)
