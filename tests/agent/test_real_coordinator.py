"""Agents and the real coordinator: what neither could show without the other."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from fleet_agent.agent import Agent
from fleet_agent.settings import Settings
from fleet_agent.state import StateFolder
from fleet_agent.uplink import Uplink
from fleet_protocol.capability import Capability, Gpu
from fleet_server.schema import migrate
from tests.agent.conftest import QUICK, is_running, until
from tests.agent.test_life import TRAINS, WAITS, WAITS_FOR_FILE
from tests.server.coordinator import Coordinator, FakeClock, job, jobs, manifest, running

Script = Callable[[str], str]
CAPABILITY = Capability(hostname="here", os="test", cores=4, ram_gib=16, models=("gbt",))
GPU = Gpu(kind="cuda", name="RTX", vram_gib=8)


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Coordinator]:
    data = tmp_path / "coordinator"
    data.mkdir(mode=0o700)
    migrate(f"sqlite:///{data / 'fleet.sqlite3'}")
    async with running(data, FakeClock(), heartbeat=0.05) as coordinator:
        yield coordinator


class Cable(httpx.AsyncHTTPTransport):
    """The way to the coordinator, which may be cut."""

    is_cut = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self.is_cut:
            raise httpx.ConnectError("cut")
        return await super().handle_async_request(request)


@asynccontextmanager
async def agent(fleet: Coordinator, settings: Settings, gpus: tuple[Gpu, ...] = ()) -> AsyncIterator[Cable]:
    """One of its own folder, drained at the end; its clock is the coordinator's."""
    settings = dataclasses.replace(settings, server=fleet.url, state=settings.state / settings.name)
    state, cable = StateFolder(settings.state), Cable()
    token = (fleet.data / "tokens" / "agent").read_text().strip()
    uplink = Uplink(fleet.url, lambda: token, retry_ceiling=0.1, transport=cable)
    offers = CAPABILITY.model_copy(update={"max_jobs": settings.max_jobs or CAPABILITY.cores, "gpus": gpus})
    agent = Agent(
        settings,
        QUICK,
        state=state,
        uplink=uplink,
        capability=offers,
        clock=lambda: fleet.clock.now().timestamp(),
    )
    working = asyncio.create_task(agent.run())
    try:
        yield cable
    finally:
        agent.on_signal()
        await working
        await uplink.close()
        state.close()


async def eventually(answer: Callable[[], Awaitable[object]]) -> None:
    """For what the coordinator only tells when asked."""
    while not await answer():  # noqa: ASYNC110 - it has no event for most of that
        await asyncio.sleep(0.02)


async def until_job(fleet: Coordinator, name: str, **wanted: object) -> None:
    async def is_so() -> bool:
        found = await fleet.job(name)
        return {key: found[key] for key in wanted} == wanted

    await eventually(is_so)


async def by_status(fleet: Coordinator, status: str) -> list[Any]:
    return list((await fleet.get("/v1/jobs", status=status))["jobs"])


async def process_of(fleet: Coordinator, name: str) -> int:
    """The process id that the trainer printed."""
    said: list[str] = []

    async def has_said() -> bool:
        said[:] = (await fleet.http().get(f"/v1/job/{name}/log")).text.splitlines()
        return said[:1] != [] and said[0].startswith("ready")

    await eventually(has_said)
    return int(said[0].split()[1])


async def test_an_agent_runs_as_many_jobs_at_once_as_it_says(
    fleet: Coordinator, trainer: Script, tmp_path: Path
) -> None:
    await fleet.load(manifest(*jobs(3)))
    settings = Settings(name="two", state=tmp_path, python=trainer(WAITS_FOR_FILE), data=tmp_path, max_jobs=2)

    async def two_run() -> bool:
        return len(await by_status(fleet, "running")) == 2

    async with agent(fleet, settings):
        await eventually(two_run)
        [worker] = (await fleet.get("/v1/workers"))["workers"]
        assert len(worker["running"]) == 2
        assert len(await by_status(fleet, "pending")) == 1
        (tmp_path / "go").touch()
        for number in range(3):
            await until_job(fleet, f"job%20{number:03}", status="completed")


async def test_jobs_that_need_the_whole_machine_run_one_after_the_other(
    fleet: Coordinator, trainer: Script, tmp_path: Path
) -> None:
    """The coordinator reserves; an agent that would take two more is given none."""
    await fleet.load(manifest(*jobs(2, min_cores=3)))
    settings = Settings(name="two", state=tmp_path, python=trainer(WAITS_FOR_FILE), data=tmp_path, max_jobs=3)
    async with agent(fleet, settings):
        await eventually(lambda: by_status(fleet, "running"))
        [waits] = await by_status(fleet, "pending")
        assert "needs 3 cores, has 1 free of 4" in waits["reason"]
        (tmp_path / "go").touch()
        for number in range(2):
            await until_job(fleet, f"job%20{number:03}", status="completed")


async def test_left_to_itself_it_runs_what_fits_by_its_declared_needs(
    fleet: Coordinator, trainer: Script, tmp_path: Path
) -> None:
    await fleet.load(manifest(*jobs(3, min_cores=2)))
    settings = Settings(
        name="auto", state=tmp_path, python=trainer(WAITS_FOR_FILE), data=tmp_path, max_jobs=None
    )

    async def two_run() -> bool:
        return len(await by_status(fleet, "running")) == 2

    async with agent(fleet, settings):
        await eventually(two_run)
        [waits] = await by_status(fleet, "pending")
        assert "needs 2 cores, has 0 free of 4" in waits["reason"]
        (tmp_path / "go").touch()
        for number in range(3):
            await until_job(fleet, f"job%20{number:03}", status="completed")


async def test_two_jobs_at_once_get_a_gpu_each(fleet: Coordinator, trainer: Script, tmp_path: Path) -> None:
    await fleet.load(manifest(*jobs(2, require_cuda=True)))
    python = trainer("print(os.environ['CUDA_VISIBLE_DEVICES'], flush=True)" + WAITS_FOR_FILE)
    settings = Settings(name="two", state=tmp_path, python=python, data=tmp_path, max_jobs=2)

    async def both_said() -> bool:
        logs = [await fleet.http().get(f"/v1/job/job%20{number:03}/log") for number in range(2)]
        return sorted(log.text[:2] for log in logs) == ["0\n", "1\n"]

    async with agent(fleet, settings, gpus=(GPU, GPU)):
        await eventually(both_said)
        (tmp_path / "go").touch()
        for number in range(2):
            await until_job(fleet, f"job%20{number:03}", status="completed")


async def test_a_job_trained_anew_may_bring_the_very_same_artifact(
    fleet: Coordinator, trainer: Script, tmp_path: Path
) -> None:
    await fleet.load(manifest(job("only")))
    async with agent(fleet, Settings(name="first", state=tmp_path, python=trainer(TRAINS))):
        await until_job(fleet, "only", status="completed")
        assert (await fleet.post("/v1/job/only/requeue", {"again": True})).status_code == 200
        await until_job(fleet, "only", status="completed", attempts=2)
    assert len({one["attempt"] for one in (await fleet.get("/v1/models"))["models"]}) == 2


async def test_a_partition_never_lets_two_of_an_exclusive_job_run(
    fleet: Coordinator, trainer: Script, tmp_path: Path
) -> None:
    await fleet.load(manifest(job("only", exclusive=True, lease=600.0)))
    settings = Settings(name="first", state=tmp_path, python=trainer(WAITS))
    async with agent(fleet, settings) as cable:
        await until_job(fleet, "only", status="running")
        first = await process_of(fleet, "only")
        cable.is_cut = True
        # a step of this test's clock is no pause of the coordinator
        fleet.sweep.settings = fleet.sweep.settings.model_copy(update={"sweep": 60.0})
        status, passed = "running", 0
        while status == "running":
            passed += 20
            fleet.clock.advance(20)
            await fleet.sweep.once()
            status = (await fleet.job("only"))["status"]
            if passed == 560:  # of 600 at least: what remains is the margin
                assert status == "running"
                await until(lambda: not is_running(first))
        assert status == "pending"
        assert passed > 600
        async with agent(fleet, dataclasses.replace(settings, name="second")):
            await until_job(fleet, "only", status="running", worker="second")
            cable.is_cut = False
            assert not is_running(first)
            second = await process_of(fleet, "only")
            assert second != first
        assert not is_running(second)
    assert (await fleet.job("only"))["errors"] == 0
