"""How busy this machine is: a sample now and then, more often while there is something to watch."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil
from pydantic import TypeAdapter, ValidationError

from fleet_agent.hardware import GIB, QUICK_SECONDS, Asking, ask
from fleet_protocol.capability import Gpu
from fleet_protocol.logs import GaugesWord
from fleet_protocol.workers import Gauges, GpuGauge

BUSY_SECONDS = 10.0
IDLE_TURNS = 6  # of BUSY_SECONDS
FIRST_SECONDS = 1.0  # a share of CPU time is one of some time

_DEVICES: TypeAdapter[tuple[GpuGauge, ...]] = TypeAdapter(tuple[GpuGauge, ...])


class Meter:
    """Samples for `gpus`, those that are offered; `devices` are their numbers, where not all are."""

    def __init__(
        self,
        gpus: tuple[Gpu, ...],
        devices: tuple[int, ...] | None,
        folder: Path,
        *,
        asking: Asking = ask,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`folder` is where the free disk counts."""
        self._gpus = gpus
        self._devices = devices
        self._folder = folder
        self._asking = asking
        self._sleep = sleep
        self.latest: Gauges | None = None

    async def run(self, is_busy: Callable[[], bool], say: Callable[[GaugesWord], Awaitable[None]]) -> None:
        """A sample every ten seconds while `is_busy`, else every minute."""
        await self._sleep(FIRST_SECONDS)
        while True:
            await say(GaugesWord(**dict(await self.sample())))
            for _ in range(IDLE_TURNS):
                await self._sleep(BUSY_SECONDS)
                if is_busy():
                    break

    async def sample(self) -> Gauges:
        told = None
        if any(gpu.kind == "cuda" for gpu in self._gpus):
            told = await self._asking([sys.executable, "-m", "fleet_agent.nvml", "gauges"], QUICK_SECONDS)
        is_first = self.latest is None  # which only sets the clock of the CPU's
        cpu = probed(psutil.cpu_percent)
        self.latest = Gauges(
            cpu_pct=None if is_first or cpu is None else min(cpu, 100.0),
            ram_used_gib=in_gib(probed(_used_bytes)),
            disk_free_gib=in_gib(probed(lambda: psutil.disk_usage(str(self._folder)).free)),
            gpus=gpu_gauges(told, self._gpus, self._devices),
        )
        return self.latest


def gpu_gauges(
    told: str | None, gpus: tuple[Gpu, ...], devices: tuple[int, ...] | None
) -> tuple[GpuGauge, ...]:
    """A gauge for each offered GPU, from what `fleet_agent.nvml` printed; an empty one where nothing is known."""
    try:
        known = _DEVICES.validate_json(told or "[]")
    except ValidationError:
        known = ()
    numbers = range(len(gpus)) if devices is None else sorted(devices)
    return tuple(
        known[number] if gpu.kind == "cuda" and number < len(known) else GpuGauge()
        for number, gpu in zip(numbers, gpus, strict=False)
    )


def probed(probe: Callable[[], float]) -> float | None:
    """None where the system does not say."""
    try:
        return probe()
    except (OSError, psutil.Error):
        return None


def _used_bytes() -> float:
    memory = psutil.virtual_memory()
    return float(memory.total - memory.available)


def in_gib(size: float | None) -> float | None:
    return None if size is None else round(size / GIB, 2)
