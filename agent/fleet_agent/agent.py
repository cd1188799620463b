"""Wires the loops together: says hello, takes up what an earlier agent left, claims, and drains when told to."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

import structlog

from fleet_agent.blobs import GIB, BlobCache
from fleet_agent.claims import Claims, Slots
from fleet_agent.environment import choose_devices
from fleet_agent.errors import AgentError, CopiedFolder
from fleet_agent.gauges import Meter
from fleet_agent.hardware import boot_id
from fleet_agent.heartbeat import Pace
from fleet_agent.limits import Clock, notice_sleep, since_boot
from fleet_agent.log_stream import LogStream
from fleet_agent.process import REAL, Processes
from fleet_agent.runner import AttemptRun
from fleet_agent.settings import Settings, Timing
from fleet_agent.spools import SpoolDisk, Spools
from fleet_agent.state import AttemptFolder, StateFolder, StopOrder
from fleet_agent.surroundings import Surroundings
from fleet_agent.uplink import Refused, Unreachable, Uplink, is_recoverable
from fleet_protocol.capability import Capability
from fleet_protocol.errors import Code
from fleet_protocol.ids import AttemptId, Sha256
from fleet_protocol.logs import StreamHello
from fleet_protocol.states import ReleaseReason, Verdict
from fleet_protocol.version import PROTOCOL, program_version
from fleet_protocol.workers import ClaimAnswer, HelloAnswer, HelloRequest, LocalAttempt

log = structlog.get_logger()


class Agent:
    """One running agent, from hello to the end of its drain."""

    def __init__(
        self,
        settings: Settings,
        timing: Timing,
        *,
        state: StateFolder,
        uplink: Uplink,
        capability: Capability,
        processes: Processes = REAL,
        clock: Clock = since_boot,
        meter: Meter | None = None,
    ) -> None:
        self._settings = settings
        self._state = state
        self._uplink = uplink
        self._capability = capability
        self._boot_id = boot_id()
        self._pace = Pace(progress_seconds=timing.progress)
        self._timing = timing
        self._slots = Slots(capability.max_jobs)
        self._clock = clock
        self._ending = asyncio.Event()
        self.is_succeeded = False
        """Another program takes this one's place: everything stays as it is."""
        self._is_hurried = False
        self._patience = asyncio.Event()
        """Set when nobody waits any longer for last words."""
        self._streaming: list[asyncio.Task[None]] = []
        """The log stream, once the coordinator knows us."""
        self._runs: dict[AttemptId, AttemptRun] = {}
        self._tasks: dict[AttemptId, asyncio.Task[None]] = {}
        self._over: set[AttemptId] = set()
        """Those that ended here since a job was last granted: a claim not settled yet may be answered with one."""
        disk = SpoolDisk(state.root, settings.spool_bytes)
        self._spools = Spools(disk, timing)
        cache = BlobCache(state.root, settings.cache_gib * GIB, uplink, self._blobs_in_use)
        self._claims = self._asking(disk, cache)
        self._stream = LogStream(
            uplink,
            StreamHello(worker=state.worker, incarnation=state.incarnation),
            timing,
            self._spools,
            on_stop=self._on_stop,
            on_wake=self._pace.wake_all,
        )
        self._meter = meter or Meter(capability.gpus, settings.devices, state.root)
        self._around = Surroundings(
            settings=settings,
            timing=timing,
            worker=state.worker,
            boot_id=self._boot_id,
            capability=capability,
            uplink=uplink,
            spools=self._spools,
            pace=self._pace,
            meter=self._meter,
            cache=cache,
            processes=processes,
            clock=clock,
        )

    def _asking(self, disk: SpoolDisk, cache: BlobCache) -> Claims:
        return Claims(
            self._uplink,
            self._state,
            self._slots,
            disk.reserve,
            wait=self._timing.claim_wait,
            holds=cache.holds,
            on_job=self._on_job,
            introduce=self._introduce,
        )

    async def run(self) -> bool:
        """Until drained, or until another program is to take this one's place with all trainers: True then.

        AgentError when the coordinator will never have us as we are.
        """
        async with asyncio.TaskGroup() as group:
            self._group = group
            watching = group.create_task(self._spools.run())
            loops = [group.create_task(self._work())]
            loops.append(group.create_task(notice_sleep(self._clock, self._on_wake)))
            await self._ending.wait()
            for task in loops:
                task.cancel()
            await asyncio.wait(loops)
            if not self.is_succeeded:
                await self._wind_down()
            for task in (watching, *self._streaming, *self._tasks.values()):
                task.cancel()
        return self.is_succeeded

    async def _work(self) -> None:
        self._take_up()
        await self._introduce()
        self._state.settle()
        for run in self._runs.values():
            self._drive(run)
        self._streaming.append(self._group.create_task(self._stream.run()))
        measuring = self._meter.run(lambda: bool(self._runs), self._stream.say)
        self._streaming.append(self._group.create_task(measuring))
        await self._claims.run()

    def _take_up(self) -> None:
        """What is on disk. A trainer that lives is watched at once, whoever the coordinator says that we are.

        The rest waits until we are known: an attempt in a copied folder is somebody else's, who may still train it.
        """
        for folder in self._state.attempts():
            log.info(f"taking up {folder.job.name}", action="attempt_adopted", attempt=folder.attempt)
            run = self._add(folder, begin=False)
            if run.is_training:
                self._drive(run)

    def _blobs_in_use(self) -> set[Sha256]:
        return {sha256 for run in self._runs.values() for sha256 in run.folder.record.blobs}

    # Starting and ending

    def _on_job(self, answer: ClaimAnswer) -> None:
        if answer.attempt in self._runs or answer.attempt in self._over:  # the same answer came again
            return
        taken = {n for run in self._runs.values() if run.is_training for n in run.folder.record.devices}
        devices = choose_devices(answer.job.needs, self._settings, self._capability, taken)
        folder = self._state.admit(answer, self._boot_id, devices)
        if folder is None:
            return
        self._over.clear()
        log.info(
            f"claimed {answer.job.name}", action="job_claimed", job=answer.job.job_id, attempt=answer.attempt
        )
        self._drive(self._add(folder, begin=not self._ending.is_set()))

    def _add(self, folder: AttemptFolder, *, begin: bool) -> AttemptRun:
        run = AttemptRun(folder, self._around, begin=begin, on_gone=self._slots.give)
        if run.is_training:
            self._slots.take()
        self._runs[folder.attempt] = run
        return run

    def _drive(self, run: AttemptRun) -> None:
        if run.folder.attempt not in self._tasks:
            self._tasks[run.folder.attempt] = self._group.create_task(self._driven(run))

    async def _driven(self, run: AttemptRun) -> None:
        try:
            await run.run()
        finally:
            self._over.add(run.folder.attempt)
            self._runs.pop(run.folder.attempt)
            self._tasks.pop(run.folder.attempt)

    def on_signal(self) -> None:
        """First: drain. Again: end the trainers now, and wait for nobody."""
        if not self._ending.is_set():
            log.info("draining: no new jobs, trainers are asked to stop", action="draining")
            self._ending.set()
            return
        log.warning("ending now", action="ending_now")
        for run in self._runs.values():
            run.hurry()
        self._is_hurried = True
        self._patience.set()

    def on_succession(self) -> None:
        """Leave everything as it is to another program, unless this one is told to drain already."""
        if not self._ending.is_set():
            log.info("starting anew; trainers go on", action="starting_anew")
            self.is_succeeded = True
            self._ending.set()

    def _on_wake(self, seconds: float) -> None:
        """Leases first: another worker may train by now what was trained here."""
        log.info(f"the machine slept for {seconds:.0f} s", action="woke_up", seconds=round(seconds))
        for run in self._runs.values():
            run.look()
        self._uplink.wake()
        self._pace.wake_all()

    async def _wind_down(self) -> None:
        """End every trainer, then hand in what can be; the rest waits in the state folder."""
        runs = list(self._runs.values())
        for run in runs:
            run.stop(StopOrder(reason=ReleaseReason.DRAINED, detail="the agent was asked to go away"))
        await self._patiently(self._claims.give_back())
        for run in runs:
            await run.trainer_gone.wait()
        if self._tasks:
            await self._patiently(self._handed_in())
        if self._runs:
            log.warning(
                f"{len(self._runs)} attempt(s) stay in {self._state.root}; the next start hands them in",
                action="results_kept",
            )

    async def _handed_in(self) -> None:
        await asyncio.wait(list(self._tasks.values()))

    async def _patiently(self, last_words: Coroutine[None, None, None]) -> None:
        """For as long as an upload moves, and `farewell` seconds more; no longer once we are told a second time."""
        loop, self._patience = asyncio.get_running_loop(), asyncio.Event()
        began, left = loop.time(), self._timing.farewell
        waits = [self._group.create_task(last_words), self._group.create_task(self._until_impatient())]
        while left > 0:
            done, _ = await asyncio.wait(waits, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if done:
                break
            last = began if self._is_hurried else max(began, self._uplink.moved)
            left = last + self._timing.farewell - loop.time()
        for task in waits:
            task.cancel()
        await asyncio.wait(waits)

    async def _until_impatient(self) -> None:
        await self._patience.wait()

    # The coordinator's words

    async def _introduce(self) -> None:
        """Say hello until it is heard. AgentError when it never will be."""
        until = asyncio.get_running_loop().time() + self._timing.twin_patience
        try:
            answer = await self._uplink.persist(
                "register", self._hello, lambda error: self._may_register_later(error, until)
            )
        except Refused as refusal:
            if refusal.problem.code == Code.DUPLICATE_IDENTITY and self._is_copy:
                raise CopiedFolder(f"{self._state.root} is a copy of a folder in use") from None
            further = f" ({refusal.problem.next})" if refusal.problem.next else ""
            raise AgentError(
                f"The coordinator at {self._uplink.server} refuses this agent: {refusal}{further}"
            ) from None
        self._state.note_heard(self._uplink.server, answer.server_time)
        self._pace.seconds = answer.heartbeat_seconds
        log.info(f"registered as {self._settings.name}", action="registered", server=self._uplink.server)
        for verdict in answer.attempts:
            if verdict.verdict is Verdict.STOP:
                self._on_stop(verdict.attempt, verdict.why or "the coordinator asked for it")

    async def _hello(self) -> HelloAnswer:
        return await self._uplink.hello(
            HelloRequest(
                worker=self._state.worker,
                name=self._settings.name,
                protocol=PROTOCOL,
                version=program_version(),
                incarnation=self._state.incarnation,
                boot_id=self._boot_id,
                capability=self._capability,
                gauges=self._meter.latest or await self._meter.sample(),
                attempts=tuple(
                    LocalAttempt(attempt=attempt, job_id=run.folder.job.job_id, running=run.is_training)
                    for attempt, run in self._runs.items()
                    if not run.folder.is_reported
                ),
                moved=self._is_copy,
            )
        )

    @property
    def _is_copy(self) -> bool:
        """It may be one: nothing that was begun in this folder lives here."""
        return self._state.moved and not any(run.is_training for run in self._runs.values())

    def _may_register_later(self, error: Unreachable | Refused, twin_until: float) -> bool:
        """A taken name gets free, a token gets mended; but at the start somebody is there to read what is wrong.

        A machine that restarted within a minute meets itself, as long as that minute lasts.
        """
        if isinstance(error, Refused):
            if error.problem.code == Code.NAME_TAKEN:
                return True
            if error.problem.code == Code.DUPLICATE_IDENTITY:
                return not self._is_copy and asyncio.get_running_loop().time() < twin_until
            if error.problem.status in (401, 403) and not self._streaming:
                return False
        return is_recoverable(error)

    def _on_stop(self, attempt: AttemptId, why: str) -> None:
        if run := self._runs.get(attempt):
            run.stop_as_told(why)
