"""Wires the loops together: says hello, takes up what an earlier agent left, claims, and drains when told to."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator

import structlog

from fleet_agent.claims import Claims, Slots
from fleet_agent.environment import choose_devices
from fleet_agent.errors import AgentError
from fleet_agent.gauges import Meter
from fleet_agent.hardware import boot_id, detect
from fleet_agent.heartbeat import Pace
from fleet_agent.limits import Clock, since_boot
from fleet_agent.log_stream import LogStream
from fleet_agent.process import REAL, Processes
from fleet_agent.runner import AttemptRun, Surroundings
from fleet_agent.settings import Settings, Timing
from fleet_agent.spools import SpoolDisk, Spools
from fleet_agent.state import AttemptFolder, StateFolder, StopOrder
from fleet_agent.uplink import Refused, Unreachable, Uplink, is_recoverable
from fleet_protocol.capability import Capability
from fleet_protocol.errors import Code
from fleet_protocol.ids import AttemptId
from fleet_protocol.local import find_token
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
        self._slots = Slots(settings.max_jobs)
        self._draining = asyncio.Event()
        self._patience: asyncio.Timeout | None = None
        self._streaming: list[asyncio.Task[None]] = []
        """The log stream, once the coordinator knows us."""
        self._runs: dict[AttemptId, AttemptRun] = {}
        self._tasks: dict[AttemptId, asyncio.Task[None]] = {}
        disk = SpoolDisk(state.root, settings.spool_bytes)
        self._spools = Spools(disk, timing)
        self._claims = Claims(
            uplink,
            state,
            self._slots,
            disk.reserve,
            wait=timing.claim_wait,
            on_job=self._on_job,
            introduce=self._introduce,
        )
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
            processes=processes,
            clock=clock,
        )

    async def run(self) -> None:
        """Until drained. AgentError when the coordinator will never have us as we are."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            watching = group.create_task(self._spools.run())
            for folder in self._state.attempts():
                log.info(f"taking up {folder.job.name}", action="attempt_adopted", attempt=folder.attempt)
                self._launch(folder, begin=False)
            working = group.create_task(self._work())
            await self._draining.wait()
            working.cancel()
            await asyncio.wait([working])
            await self._wind_down()
            for task in (watching, *self._streaming, *self._tasks.values()):
                task.cancel()

    async def _work(self) -> None:
        await self._introduce()
        self._streaming.append(self._group.create_task(self._stream.run()))
        measuring = self._meter.run(lambda: bool(self._runs), self._stream.say)
        self._streaming.append(self._group.create_task(measuring))
        await self._claims.run()

    # Starting and ending

    def _on_job(self, answer: ClaimAnswer) -> None:
        taken = {n for run in self._runs.values() if run.is_training for n in run.folder.record.devices}
        devices = choose_devices(answer.job.needs, self._settings, self._capability, taken)
        folder = self._state.admit(answer, self._boot_id, devices)
        if folder is None:
            return
        log.info(
            f"claimed {answer.job.name}", action="job_claimed", job=answer.job.job_id, attempt=answer.attempt
        )
        self._launch(folder, begin=not self._draining.is_set())

    def _launch(self, folder: AttemptFolder, *, begin: bool) -> None:
        self._slots.take()
        run = AttemptRun(folder, self._around, begin=begin, on_reported=self._slots.give)
        self._runs[folder.attempt] = run
        self._tasks[folder.attempt] = self._group.create_task(self._drive(run))

    async def _drive(self, run: AttemptRun) -> None:
        try:
            await run.run()
        finally:
            self._runs.pop(run.folder.attempt)
            self._tasks.pop(run.folder.attempt)

    def on_signal(self) -> None:
        """First: drain. Again: end the trainers now, and wait for nobody."""
        if not self._draining.is_set():
            log.info("draining: no new jobs, trainers are asked to stop", action="draining")
            self._draining.set()
            return
        log.warning("ending now", action="ending_now")
        for run in self._runs.values():
            run.hurry()
        if self._patience is not None:
            self._patience.reschedule(asyncio.get_running_loop().time())

    async def _wind_down(self) -> None:
        """End every trainer, then hand in what can be; the rest waits in the state folder."""
        runs = list(self._runs.values())
        for run in runs:
            run.stop(StopOrder(reason=ReleaseReason.DRAINED, detail="the agent was asked to go away"))
        await self._patiently(self._claims.give_back())
        for run in runs:
            await run.trainer_gone.wait()
        if self._tasks:
            await self._patiently(asyncio.wait(list(self._tasks.values())))
        if self._tasks:
            log.warning(
                f"{len(self._tasks)} attempt(s) stay in {self._state.root}; the next start hands them in",
                action="results_kept",
            )

    async def _patiently(self, last_words: Awaitable[object]) -> None:
        """Only so long, and no longer once we are told a second time."""
        try:
            async with asyncio.timeout(self._timing.farewell) as self._patience:
                await last_words
        except TimeoutError:
            pass
        finally:
            self._patience = None

    # The coordinator's words

    async def _introduce(self) -> None:
        """Say hello until it is heard. AgentError when it never will be."""
        try:
            answer = await self._uplink.persist("register", self._hello, self._may_register_later)
        except Refused as refusal:
            further = f" ({refusal.problem.next})" if refusal.problem.next else ""
            raise AgentError(
                f"The coordinator at {self._uplink.server} refuses this agent: {refusal}{further}"
            ) from None
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
            )
        )

    def _may_register_later(self, error: Unreachable | Refused) -> bool:
        """A taken name gets free, a token gets mended; but at the start somebody is there to read what is wrong."""
        if isinstance(error, Refused):
            if error.problem.code == Code.NAME_TAKEN:
                return True
            if error.problem.status in (401, 403) and not self._streaming:
                return False
        return is_recoverable(error)

    def _on_stop(self, attempt: AttemptId, why: str) -> None:
        if run := self._runs.get(attempt):
            run.stop_as_told(why)


async def run_agent(settings: Settings, timing: Timing) -> None:
    """Run until a signal drains it. AgentError says what is wrong with the settings or the coordinator."""
    if sys.platform == "win32":
        raise AgentError(
            "This version of fleet-agent cannot run jobs on Windows yet; run it on Linux or macOS."
        )
    state = StateFolder(settings.state)
    uplink = Uplink(
        settings.server, lambda: find_token(settings.server, "agent"), retry_ceiling=timing.retry_ceiling
    )
    try:
        findings = await detect(settings)
        for complaint in findings.complaints:
            log.warning(complaint, action="complaint")
        agent = Agent(settings, timing, state=state, uplink=uplink, capability=findings.capability)
        with _signals(agent.on_signal):
            await agent.run()
    except ExceptionGroup as errors:
        raise _cause(errors) from errors
    finally:
        await uplink.close()
        state.close()


def _cause(error: Exception) -> Exception:
    """The refusal in a group of failures, else its first failure."""
    if not isinstance(error, ExceptionGroup):
        return error
    return _cause((error.subgroup(AgentError) or error).exceptions[0])


@contextlib.contextmanager
def _signals(handler: Callable[[], None]) -> Iterator[None]:
    """SIGTERM and Ctrl-C call `handler` inside the loop."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT)
    if sys.platform == "win32":
        for number in numbers:
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(handler))
        yield
        return
    for number in numbers:
        loop.add_signal_handler(number, handler)
    yield
    for number in numbers:
        loop.remove_signal_handler(number)
