from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from fleet_agent.gauges import Meter, gpu_gauges, probed
from fleet_agent.hardware import ask
from fleet_protocol.capability import Gpu
from fleet_protocol.logs import GaugesWord
from fleet_protocol.workers import GpuGauge

CARD, MAC = Gpu(kind="cuda", name="RTX", vram_gib=8), Gpu(kind="mps", name="Apple", vram_gib=16)
TOLD = json.dumps(
    [{"busy_pct": 35, "vram_used_gib": 4.25, "temperature_c": 61}, {"busy_pct": None, "vram_used_gib": 1}]
)


def test_gpus_are_measured_in_the_order_in_which_they_are_offered() -> None:
    first, second = GpuGauge(busy_pct=35, vram_used_gib=4.25, temperature_c=61), GpuGauge(vram_used_gib=1)
    assert gpu_gauges(TOLD, (CARD, CARD), None) == (first, second)
    assert gpu_gauges(TOLD, (CARD,), (1,)) == (second,)
    assert gpu_gauges(TOLD, (CARD, CARD, MAC), None) == (first, second, GpuGauge())
    assert gpu_gauges(TOLD, (), None) == ()


def test_what_the_driver_does_not_say_is_unknown() -> None:
    for told in (None, "", "[]", "no JSON", '[{"busy_pct": 400}]'):
        assert gpu_gauges(told, (CARD,), None) == (GpuGauge(),)


def test_a_probe_that_fails_is_unknown() -> None:
    def fails() -> float:
        raise psutil.AccessDenied

    assert probed(fails) is None
    assert probed(lambda: Path("/nonexistent").stat().st_size) is None
    assert probed(lambda: 1.0) == 1.0


async def test_a_real_machine_is_measured(tmp_path: Path) -> None:
    meter = Meter((), None, tmp_path)
    first, second = await meter.sample(), await meter.sample()
    assert first.cpu_pct is None, "no time has passed of which it could be a share"
    assert second.cpu_pct is not None
    assert second.ram_used_gib is not None
    assert second.ram_used_gib > 0
    assert second.disk_free_gib is not None
    assert meter.latest == second


async def test_a_driver_is_only_asked_where_there_is_a_device(tmp_path: Path) -> None:
    asked: list[Sequence[str]] = []

    async def asking(command: Sequence[str], seconds: float) -> str | None:
        asked.append(command)
        return TOLD

    assert (await Meter((MAC,), None, tmp_path, asking=asking).sample()).gpus == (GpuGauge(),)
    assert not asked
    assert (await Meter((CARD,), None, tmp_path, asking=asking).sample()).gpus[0].busy_pct == 35
    assert asked == [[sys.executable, "-m", "fleet_agent.nvml", "gauges"]]


async def test_the_program_that_asks_the_driver_says_nothing_without_one() -> None:
    assert json.loads(await ask([sys.executable, "-m", "fleet_agent.nvml", "gauges"], 30) or "") == []


async def test_it_measures_seldom_while_there_is_nothing_to_watch(tmp_path: Path) -> None:
    now, said = [0.0], list[float]()

    async def sleep(seconds: float) -> None:
        now[0] += seconds

    async def say(word: GaugesWord) -> None:
        said.append(now[0])
        if len(said) == 5:
            raise asyncio.CancelledError

    meter = Meter((), None, tmp_path, sleep=sleep)
    with pytest.raises(asyncio.CancelledError):
        await meter.run(lambda: len(said) > 2, say)
    assert said == [1.0, 61.0, 121.0, 131.0, 141.0]
