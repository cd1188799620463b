"""Two coordinators, one PostgreSQL, one data folder: one is active, the other takes over when it is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

from fleet_protocol.local import find_token
from fleet_server.database import writing_engine
from tests.server.coordinator import job, manifest

pytestmark = pytest.mark.parametrize("engine", ["postgres"], indirect=True)


@asynccontextmanager
async def started(data: Path, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    command = [sys.executable, "-m", "fleet_server", "serve", "--port", "0", "--data", str(data), *arguments]
    process = await asyncio.create_subprocess_exec(*command, stdout=-1, stderr=-1)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(60):
        return (await process.stdout.readline()).decode().strip()


async def jobs(url: str) -> list[tuple[str, str]]:
    headers = {"Authorization": f"Bearer {find_token(url, 'viewer')}"}
    async with httpx.AsyncClient(base_url=url, headers=headers) as http:
        return [(entry["name"], entry["status"]) for entry in (await http.get("/v1/jobs")).json()["jobs"]]


async def test_a_standby_takes_over_when_the_active_one_is_killed(data: Path, tmp_path: Path):
    file = tmp_path / "m.toml"
    file.write_text(manifest(job("kept")))
    async with started(data, "--manifest", str(file)) as active:
        url = (await line(active)).removeprefix("fleet-server: listening on ")
        async with started(data) as standby:
            assert await line(standby) == "fleet-server: standing by; another coordinator is active"
            assert await jobs(url) == [("kept", "pending")]
            active.kill()
            url = (await line(standby)).removeprefix("fleet-server: listening on ")
            assert await jobs(url) == [("kept", "pending")]


async def test_who_loses_the_database_leaves_and_never_writes_again(data: Path):
    async with started(data) as active:
        assert "listening" in await line(active)
        with (engine := writing_engine(os.environ["FLEET_SERVER_DATABASE_URL"])).begin() as connection:
            mine = "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and granted"
            assert connection.execute(text(mine)).all()
        engine.dispose()
        async with asyncio.timeout(30):
            _, errors = await active.communicate()
        assert active.returncode == 1
        assert b"lost the database" in errors
        assert b"\nTraceback" not in errors, "a record of the log may hold one, the terminal never"


async def test_a_clean_end_hands_over_at_once(data: Path):
    async with started(data) as active, started(data) as standby:
        first, second = await asyncio.gather(line(active), line(standby))
        if "standing by" in first:
            active, standby = standby, active
        assert sorted(["listening" in first, "listening" in second]) == [False, True]
        active.send_signal(signal.SIGTERM)
        assert "listening on" in await line(standby)
