"""A real coordinator on a real port with a clock of the test's own, and workers as their calls."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import uvicorn
from sqlalchemy import text
from websockets.asyncio.client import connect

from fleet_protocol.ids import WorkerId, new_worker_id
from fleet_protocol.local import Role
from fleet_protocol.workers import ClaimAnswer
from fleet_server.app import create_app
from fleet_server.jobs.sweep import Sweep
from fleet_server.services import Services
from fleet_server.settings import Settings
from fleet_server.workers.flush import Flush

NEVER = 7 * 86_400.0
"""The loops of the application sleep through a test; it calls the sweep and the flush itself."""


class FakeClock:
    """Stands still unless told to move."""

    def __init__(self) -> None:
        self._now = datetime(2026, 1, 1, 12, tzinfo=UTC)

    def now(self) -> datetime:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)


@dataclass(slots=True)
class Coordinator:
    """An open coordinator: one HTTP client per role, websockets, and its parts to look into."""

    services: Services
    clock: FakeClock
    url: str
    sweep: Sweep
    flush: Flush
    _stack: AsyncExitStack
    _clients: dict[Role | None, httpx.AsyncClient] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        return self.services.settings.data

    def headers(self, role: Role | None) -> dict[str, str]:
        token = (self.data / "tokens" / role).read_text().strip() if role else ""
        return {"Authorization": f"Bearer {token}"} if role else {}

    def http(self, role: Role | None = "operator") -> httpx.AsyncClient:
        if role not in self._clients:
            limits = httpx.Limits(max_connections=None)
            client = httpx.AsyncClient(
                base_url=self.url, headers=self.headers(role), timeout=30, limits=limits, verify=False
            )
            self._stack.push_async_callback(client.aclose)
            self._clients[role] = client
        return self._clients[role]

    async def get(self, path: str, **params: Any) -> Any:
        """The JSON that an operator gets."""
        answer = await self.http().get(path, params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def post(self, path: str, body: object = None) -> httpx.Response:
        return await self.http().post(path, json={} if body is None else body)

    async def load(self, toml: str, file: str = "test.toml") -> Any:
        """Apply a manifest; the plan."""
        answer = await self.post("/v1/manifest/reload", {"toml": toml, "file": file})
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def job(self, reference: str) -> Any:
        return await self.get(f"/v1/job/{reference}")

    async def worker(self, name: str = "box", **offers: Any) -> Worker:
        """A worker that has said hello."""
        worker = Worker(self, name, offers)
        await worker.hello()
        return worker

    async def count(self, table: str) -> int:
        async with self.services.database.read() as connection:
            found: int = (await connection.execute(text(f"select count(*) from {table}"))).scalar_one()
        return found

    def websocket(self, path: str, role: Role | None = "viewer", **headers: str) -> connect:
        return connect(
            self.url.replace("http", "ws", 1) + path,
            additional_headers={**self.headers(role), **headers},
            max_size=None,
        )


CAPABILITY = {
    "hostname": "box",
    "os": "Linux",
    "cores": 8,
    "ram_gib": 32,
    "models": ["gbt", "mlp", "cnn", "gru", "lstm"],
}


@dataclass(slots=True)
class Worker:
    """One agent, as the calls it makes."""

    coordinator: Coordinator
    name: str
    offers: dict[str, Any] = field(default_factory=dict)
    id: WorkerId = field(default_factory=new_worker_id)
    incarnation: str = field(default_factory=lambda: str(uuid4()))

    def greeting(self, **changes: Any) -> dict[str, Any]:
        return {
            "worker": self.id,
            "name": self.name,
            "protocol": 1,
            "version": "0.1.0",
            "incarnation": self.incarnation,
            "boot_id": "boot",
            "capability": {**CAPABILITY, **self.offers},
            **changes,
        }

    async def post(self, path: str, body: object) -> httpx.Response:
        return await self.coordinator.http("agent").post(path, json=body)

    async def hello(self, **changes: Any) -> Any:
        answer = await self.post("/v1/worker/hello", self.greeting(**changes))
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def claim(
        self, wait: float = 0, claim_id: str | None = None, holds: Sequence[str] = ()
    ) -> ClaimAnswer | None:
        body = {"worker": self.id, "claim_id": claim_id or str(uuid4()), "wait": wait, "holds": list(holds)}
        answer = await self.post("/v1/job/claim", body)
        assert answer.status_code in (200, 204), answer.text
        return ClaimAnswer.model_validate_json(answer.content) if answer.status_code == 200 else None

    async def take(self) -> ClaimAnswer:
        """Claim and start what has to be there."""
        held = await self.claim()
        assert held is not None, "nothing to claim"
        assert (await self.say("start", held)).status_code == 200
        return held

    async def say(self, verb: str, held: ClaimAnswer, **more: Any) -> httpx.Response:
        """POST start, heartbeat, complete, fail or release about a claimed job."""
        body = {"worker": self.id, "attempt": held.attempt, **more}
        return await self.post(f"/v1/job/{held.job.job_id}/{verb}", body)

    async def upload(
        self, held: ClaimAnswer, data: bytes, *, name: str | None = None, **headers: str
    ) -> httpx.Response:
        path = f"/v1/model/{name or digest(data)}?attempt={held.attempt}"
        return await self.coordinator.http("agent").put(path, content=data, headers=headers)

    async def finish(self, held: ClaimAnswer, data: bytes = b"weights", **more: Any) -> httpx.Response:
        """Upload and complete."""
        assert (await self.upload(held, data)).status_code in (200, 201)
        return await self.say("complete", held, artifact=digest(data), **more)

    async def error(self, held: ClaimAnswer, reason: str = "ValueError: no", **more: Any) -> httpx.Response:
        return await self.say("fail", held, **{"kind": "error", "reason": reason, "exit_code": 1, **more})

    async def log(self, held: ClaimAnswer, offset: int, data: bytes) -> httpx.Response:
        return await self.coordinator.http("agent").patch(
            f"/v1/attempt/{held.attempt}/log", content=data, headers={"Upload-Offset": str(offset)}
        )


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@asynccontextmanager
async def running(data: Path, clock: FakeClock, **changes: Any) -> AsyncIterator[Coordinator]:
    """A coordinator whose database is there already, on a free port."""
    settings = Settings(**{"data": data, "sweep": NEVER, "flush": NEVER, "log_sweep": NEVER, **changes})
    app = create_app(settings, clock)
    async with app.router.lifespan_context(app), AsyncExitStack() as stack:
        services: Services = app.state.services
        # Protocol named: asyncio turns Nagle's delay off only where it reads TCP, and that is 40 ms an answer.
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        server = await _serve(app, listener)
        stack.push_async_callback(_end, server)
        stack.callback(services.begin_closing)
        roster = services.workers.roster
        looks = settings.model_copy(update={"sweep": 5.0})
        yield Coordinator(
            services=services,
            clock=clock,
            url=f"http://127.0.0.1:{listener.getsockname()[1]}",
            sweep=Sweep(services.database, clock, looks, roster, services.workers.policy),
            flush=Flush(services.database, settings, roster),
            _stack=stack,
        )


async def _serve(app: Any, listener: socket.socket) -> uvicorn.Server:
    config = uvicorn.Config(
        app, lifespan="off", log_config=None, access_log=False, ws="websockets-sansio", server_header=False
    )
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup(sockets=[listener])
    return server


async def _end(server: uvicorn.Server) -> None:
    """What uvicorn's own shutdown does, without its pauses."""
    for listening in server.servers:
        listening.close()
    for connection in list(server.server_state.connections):
        connection.shutdown()
    await until(lambda: not (server.server_state.connections or server.server_state.tasks))


async def until(condition: Callable[[], object]) -> None:
    """For what only shows in somebody's memory."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - nobody is there to set an event
            await asyncio.sleep(0)


OWN = """schema_version = 1
[datasets.watch]
path = "rows"
[models.mine]
command = ["python", "train.py"]
source = "src"
[[jobs]]
name = "mine"
model = "mine"
dataset = "watch"
"""
"""The manifest of a program of one's own, with its data and its source."""


def job(name: str = "a job", **changes: Any) -> dict[str, Any]:
    """One `[[jobs]]` table."""
    return {"name": name, "model": "gbt", **changes}


def jobs(count: int, **changes: Any) -> list[dict[str, Any]]:
    return [job(f"job {number:03}", seed=number, **changes) for number in range(count)]


def manifest(*wanted: Mapping[str, Any], hosts: Mapping[str, Mapping[str, Any]] | None = None) -> str:
    """The TOML of a manifest."""
    parts = ['schema_version = 1\nname = "lab"\n']
    parts += [f"[hosts.{name}]\n{_table(policy)}" for name, policy in (hosts or {}).items()]
    parts += [f"[[jobs]]\n{_table(entry)}" for entry in wanted]
    return "\n".join(parts)


def _table(entry: Mapping[str, Any]) -> str:
    return "".join(f"{key} = {_value(value)}\n" for key, value in entry.items())


def _value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_value(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return f'"{value}"' if isinstance(value, str) else repr(value)


async def refused(answer: httpx.Response, status: int, code: str) -> Any:
    """The problem that an answer carries, which has to be this one."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    problem = answer.json()
    assert (answer.status_code, problem["status"], problem["code"]) == (status, status, code), problem
    assert problem["title"]
    assert problem["detail"]
    return problem
