"""One worker's machine: its disk and its trainers stay, its agent comes and goes."""

from __future__ import annotations

import asyncio
import random
import traceback
from pathlib import Path

from fleet_agent.agent import Agent
from fleet_agent.errors import AgentError
from fleet_agent.gauges import Meter
from fleet_agent.settings import Settings, Timing
from fleet_agent.state import StateFolder
from fleet_agent.uplink import Uplink
from fleet_protocol.capability import Capability
from fleet_protocol.workers import Gauges, GpuGauge
from tests.simulation.coordinator import URL
from tests.simulation.disk import KILL
from tests.simulation.loop import DIAL, VirtualLoop
from tests.simulation.network import Seen, Wire
from tests.simulation.trainers import Trainers

TIMING = Timing(log_poll=5.0, http_poll=5.0, progress=30.0)


class StillMeter(Meter):
    """Of a machine that is only played."""

    async def sample(self) -> Gauges:
        self.latest = Gauges(cpu_pct=50, gpus=(GpuGauge(),) * len(self._gpus))
        return self.latest


class Machine:
    def __init__(
        self,
        folder: Path,
        token: str,
        capability: Capability,
        *,
        wire: Wire,
        trainers: Trainers,
        seen: Seen,
        loop: VirtualLoop,
    ) -> None:
        self.name = capability.hostname
        self.settings = Settings(
            server=URL,
            state=folder,
            name=self.name,
            grace=20.0,
            max_jobs=capability.max_jobs,
            spool_gib=1 / 64,  # and with it a small reserve: many machines share this one's disk
        )
        self._token, self._capability = token, capability
        self.wire, self.trainers, self._seen, self._loop = wire, trainers, seen, loop
        self._agent: Agent | None = None
        self._life: asyncio.Task[None] | None = None
        self.down_at: list[float] = []
        """When its agent ended."""
        self.luck = random.Random(self.name)

    @property
    def is_up(self) -> bool:
        return self._life is not None and not self._life.done()

    def start(self) -> None:
        if not self.is_up:
            if self.trainers.alive():
                self._seen.sometimes["trainer adopted by a later agent"] += 1
            self.wire.is_dead = False
            self._life = self._loop.create_task(self._live())

    async def _live(self) -> None:
        DIAL.set(self.wire.dial)
        state = StateFolder(self.settings.state)
        KILL.set(self._die)
        uplink = Uplink(URL, lambda: self._token, transport=self.wire)
        self._agent = Agent(
            self.settings,
            TIMING,
            state=state,
            uplink=uplink,
            capability=self._capability,
            processes=self.trainers.processes,
            clock=self._loop.time,
            meter=StillMeter(self._capability.gpus, None, self.settings.state),
        )
        try:
            await self._agent.run()
        except BaseException:
            if not self.wire.is_dead:
                raise
        finally:
            self.down_at.append(self._loop.time())
            self._agent = None
            await uplink.close()
            state.close()

    def signal(self) -> None:
        """As SIGTERM does: drain; a second one: now."""
        if self._agent is not None and self.is_up:
            self._agent.on_signal()

    async def drained(self) -> None:
        if self._life is not None:
            await self._life

    async def kill(self) -> None:
        """As SIGKILL does; the trainers do not notice."""
        if self._life is None or self._life.done():
            return
        self.wire.is_dead = True
        self.wire.tear()
        self._life.cancel()
        await asyncio.wait({self._life})

    def _die(self) -> None:
        """SIGKILL from inside: whoever is in the middle of something never gets to its end."""
        self.wire.is_dead = True
        self.wire.tear()
        self._loop.call_later(self.luck.uniform(1, 300), self.start)

    async def lose_power(self) -> None:
        await self.kill()
        await self.trainers.end_all()

    def check(self) -> None:
        """An agent ends only when it is told to."""
        if self._life is not None and self._life.done() and not self._life.cancelled():
            error = self._life.exception()
            if isinstance(error, AgentError) and "cannot be used" in str(error):
                self._seen.sometimes["no start on a full disk"] += 1
                self.start()
            elif error is not None:
                where = traceback.format_exception(error)[-6:]
                self._seen.broken.append(f"the agent on {self.name} died: {where}")
                self._life = None

    def left_behind(self) -> list[str]:
        """Attempts that are not handed in."""
        folders = [self.settings.state / name for name in ("attempts", "kept")]
        return [str(path) for folder in folders if folder.exists() for path in folder.iterdir()]
