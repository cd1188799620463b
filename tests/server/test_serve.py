"""`fleet-server serve` as a process: what it refuses to start with, in one sentence, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from websockets.asyncio.client import connect

from fleet_protocol.local import Role, find_token
from tests.server.coordinator import job, manifest

SERVE = [sys.executable, "-m", "fleet_server", "serve"]
ONE_ENGINE = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
"""Where the engine is SQLite's own file, or plays no part: a program's start is dear."""


def refusal(*arguments: object, status: int = 1) -> str:
    """What the program says when it refuses to start."""
    command = [*SERVE, "--port", "0", *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == status, ended.stderr
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr
    (sentence,) = [line for line in ended.stderr.splitlines() if line.startswith("fleet-server: ")]
    return sentence.removeprefix("fleet-server: ")


@ONE_ENGINE
def test_a_port_in_use(data: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refusal("--data", data, "--port", port)
    assert said == (
        f"port {port} on 127.0.0.1 is in use, perhaps by another fleet-server; "
        "stop it, or give another with --port (0 takes a free one)"
    )


@ONE_ENGINE
def test_a_folder_that_others_can_read(data: Path):
    data.chmod(0o750)
    assert refusal("--data", data) == f"{data} can be read by other accounts; mend it with: chmod 700 {data}"


def test_a_folder_that_cannot_be(tmp_path: Path):
    (tmp_path / "file").touch()
    assert refusal("--data", tmp_path / "file" / "data").endswith("give another with --data")


@ONE_ENGINE
def test_a_database_of_a_newer_version(data: Path):
    with contextlib.closing(sqlite3.connect(data / "fleet.sqlite3")) as connection, connection:
        connection.execute("update alembic_version set version_num = '9999'")
    assert refusal("--data", data).startswith("The database is at revision 9999, which a newer fleet made.")


@ONE_ENGINE
def test_a_file_that_is_no_database(data: Path):
    (data / "fleet.sqlite3").write_bytes(b"no database" * 1000)
    assert "cannot be used as a database" in refusal("--data", data)


@ONE_ENGINE
def test_a_manifest_with_problems(data: Path, tmp_path: Path):
    file = tmp_path / "m.toml"
    file.write_text(manifest(job(model="gtb", priorty=1)))
    command = [*SERVE, "--port", "0", "--data", str(data), "--manifest", str(file)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert ended.stderr.splitlines() == [
        "fleet-server: the manifest has problems; nothing was started",
        f"  {file}:6: jobs[0].model: there is no model 'gtb'; did you mean `gbt`?",
        f"  {file}:7: jobs[0].priorty: unknown key; did you mean `priority`?",
    ]


@ONE_ENGINE
def test_an_address_that_is_not_loopback(data: Path):
    assert refusal("--data", data, "--host", "0.0.0.0") == (
        "0.0.0.0 is not a loopback address, and without TLS everybody on the way could read the tokens; "
        "let others in through a proxy (--public-url https://…) or a tunnel (ssh -L)"
    )


@ONE_ENGINE
def test_settings_that_make_no_sense(data: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FLEET_SERVER_MAX_LOST", "many")
    said = refusal("--data", data, "--stale-after", -1, status=2)
    assert "--stale-after: " in said
    assert "--max-lost: " in said


class Served:
    """A coordinator in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self.process = process
        self.url = url

    def headers(self, role: Role) -> dict[str, str]:
        return {"Authorization": f"Bearer {find_token(self.url, role, {})}"}


@contextlib.asynccontextmanager
async def served(data: Path, *more: str) -> AsyncIterator[Served]:
    process = await asyncio.create_subprocess_exec(
        *SERVE, "--port", "0", "--data", str(data), *more, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        line = (await asyncio.wait_for(process.stdout.readline(), 60)).decode()
        found = re.fullmatch(r"fleet-server: listening on (http://127\.0\.0\.1:\d+)\n", line)
        assert found, line or (await process.communicate())[1].decode()
        yield Served(process, found[1])
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def test_a_second_one_on_the_same_folder(tmp_path: Path):
    data = tmp_path / "made by itself"
    async with served(data) as first:
        said = await asyncio.to_thread(refusal, "--data", data)
        assert said == (
            f"another coordinator (process {first.process.pid}) uses {data}; stop it, or give another --data"
        )
        first.process.kill()
        await first.process.wait()
    async with served(data):
        pass  # a killed one leaves the folder free
    assert data.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(("how", "status"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 130)])
async def test_it_ends_at_once_whoever_waits(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: signal.Signals, status: int
):
    monkeypatch.setenv("FLEET_SERVER_HEARTBEAT", "7")
    file = tmp_path / "m.toml"
    file.write_text(manifest(job("gpu", require_cuda=True)))
    async with (
        served(data, "--manifest", str(file), "--stale-after", "9") as server,
        httpx.AsyncClient(base_url=server.url, timeout=60) as http,
        connect(
            server.url.replace("http", "ws") + "/v1/events", additional_headers=server.headers("viewer")
        ) as feed,
    ):
        assert "snapshot" in str(await feed.recv())
        waiting = asyncio.ensure_future(
            http.get("/v1/events?after=1&wait=30", headers=server.headers("operator"))
        )
        agent = server.headers("agent")
        worker = {
            "worker": str(uuid4()),
            "name": "box",
            "protocol": 1,
            "version": "1",
            "incarnation": str(uuid4()),
            "capability": {"hostname": "box", "os": "Linux", "cores": 1, "ram_gib": 8, "models": ["gbt"]},
        }
        hello = await http.post("/v1/worker/hello", json=worker, headers=agent)
        assert hello.json()["heartbeat_seconds"] == 7, "set by the environment"
        beat = {"worker": worker["worker"], "attempt": str(uuid4())}
        answer = await http.post(f"/v1/job/{'0' * 16}/heartbeat", json=beat, headers=agent)
        assert answer.json()["lease_seconds"] == 9, "set by a flag"
        assert (await waiting).json()["next"] == 2
        claim = asyncio.ensure_future(
            http.post(
                "/v1/job/claim",
                json={"worker": worker["worker"], "claim_id": str(uuid4()), "wait": 30},
                headers=agent,
            )
        )
        more = asyncio.ensure_future(http.get("/v1/events?after=2&wait=30", headers=server.headers("viewer")))
        assert (await http.get("/v1/ready", headers=server.headers("viewer"))).status_code == 200
        server.process.send_signal(how)
        async with asyncio.timeout(10):  # far less than anybody waits for
            assert await server.process.wait() == status
            answers = await asyncio.gather(claim, more, return_exceptions=True)
            await feed.wait_closed()
        for ended in answers:
            assert isinstance(ended, httpx.TransportError) or getattr(ended, "status_code", None) in (
                200,
                204,
            )
        assert server.process.stderr is not None
        assert b"Traceback" not in await server.process.stderr.read()


@ONE_ENGINE
async def test_a_request_that_does_not_end_is_cut_off_in_one_line(data: Path):
    async with served(data) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
        head = "POST /v1/manifest/plan HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        who = server.headers("operator")["Authorization"]
        writer.write(
            f"{head}Authorization: {who}\r\nContent-Length: 99\r\nExpect: 100-continue\r\n\r\n".encode()
        )
        assert b" 100 " in await reader.readline()  # it waits for the rest
        server.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            await server.process.wait()
        writer.close()
        assert server.process.stderr is not None
        said = (await server.process.stderr.read()).decode()
        assert "request_cut_off" in said
        assert "Traceback" not in said


def test_migrate(tmp_path: Path):
    command = [sys.executable, "-m", "fleet_server", "migrate", "--data", str(tmp_path / "new")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert re.fullmatch(r"fleet-server: the database is at revision \w+\n", ended.stdout)


@ONE_ENGINE
@pytest.mark.parametrize("name", ["lock", "tokens"])
def test_a_data_folder_that_is_not_one(data: Path, name: str):
    (data / "lock").mkdir() if name == "lock" else (data / "tokens").touch()
    assert refusal("--data", data).startswith(f"cannot use {data / name}: ")


@pytest.mark.parametrize("url", ["nonsense", "foo://x"])
def test_a_database_url_that_is_none(tmp_path: Path, url: str):
    sentence = refusal("--data", tmp_path / "new", "--database-url", url)
    assert sentence.startswith("--database-url cannot be used: ")


@ONE_ENGINE
async def test_tokens_found_by_nobody_are_no_reason_not_to_serve(data: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FLEET_STATE_DIR", "/proc/nowhere")
    command = [*SERVE, "--port", "0", "--data", str(data)]
    process = await asyncio.create_subprocess_exec(*command, stdout=-1, stderr=-1)
    assert process.stdout is not None
    async with asyncio.timeout(60):
        assert b"listening" in await process.stdout.readline()
    process.terminate()
    _, errors = await process.communicate()
    assert b"note_not_written" in errors
