"""The coordinator's machine: starts the real application on a data folder, stops it, and kills it."""

from __future__ import annotations

import asyncio
import json
from contextvars import Context
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from starlette.types import Message
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from fleet_server.app import create_app
from fleet_server.settings import Settings
from tests.simulation.loop import EPOCH, VirtualLoop
from tests.simulation.network import Answer, ConnectionLost, Seen, verb_of
from tests.simulation.sockets import End, Line
from tests.simulation.storage import InlineDatabase

URL = "http://127.0.0.1:8490"
GRACE_SECONDS = 5
START = datetime(2026, 1, 1, tzinfo=UTC)


class SimulatedClock:
    """The loop's time, and what a pause of the coordinator added to it."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self.paused = 0.0

    def now(self) -> datetime:
        return START + timedelta(seconds=self._loop.time() - EPOCH + self.paused)


class Exchange:
    """One request under way in the application."""

    def __init__(self, body: bytes, *, is_cut: bool) -> None:
        loop = asyncio.get_running_loop()
        self._incoming: list[Message] = [{"type": "http.request", "body": body, "more_body": is_cut}]
        self._gone = asyncio.Event()
        self._status = 500
        self._headers: list[tuple[bytes, bytes]] = []
        self._body = b""
        self.outcome: asyncio.Future[Answer | None] = loop.create_future()
        """None when the application ended without an answer."""
        if is_cut:
            self._gone.set()

    def hang_up(self) -> None:
        self._gone.set()

    async def answered(self) -> Answer:
        answer = await asyncio.shield(self.outcome)
        if answer is None:
            raise ConnectionLost
        return answer

    async def receive(self) -> Message:
        if self._incoming:
            return self._incoming.pop()
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status, self._headers = message["status"], list(message["headers"])
        else:
            self._body += message.get("body", b"")

    def settle(self, *, is_answered: bool) -> Answer | None:
        answer = Answer(self._status, self._headers, self._body) if is_answered else None
        self.outcome.set_result(answer)
        return answer


class Site:
    """The machine and its data folder, whether the coordinator runs or not."""

    def __init__(self, settings: Settings, loop: VirtualLoop, seen: Seen) -> None:
        self.settings, self._loop, self._seen = settings, loop, seen
        self.clock = SimulatedClock(loop)
        self.listening: list[float] = []
        """Since when it heard everybody: its starts and the ends of its pauses, by its own clock as a loop's time."""
        self._app: FastAPI | None = None
        self._life: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._calls: set[asyncio.Task[None]] = set()
        self._sockets = ServerState()
        self._lines: list[Line] = []

    @property
    def is_up(self) -> bool:
        return self._app is not None

    @property
    def app(self) -> FastAPI:
        assert self._app is not None
        return self._app

    def pause(self, seconds: float) -> None:
        """As SIGSTOP and SIGCONT, or a suspended machine, do: its clock went on without it."""
        # a shorter one goes unnoticed, and agents' clocks, which it would have moved as well, stand still here
        self.clock.paused += max(seconds, self.settings.heartbeat + self.settings.sweep + 1)
        self.listening.append(self._loop.time() + self.clock.paused)

    async def start(self) -> None:
        if self._life is not None:
            return
        self._stop = asyncio.Event()
        ready: asyncio.Future[None] = self._loop.create_future()
        self._database = InlineDatabase(self.settings.url, self.clock, self._loop)
        self._life = self._loop.create_task(self._live(ready))
        self._life.add_done_callback(lambda _: _settle(ready))
        await ready
        if self._life.done():
            self._life.result()

    async def _live(self, ready: asyncio.Future[None]) -> None:
        app = create_app(self.settings, self.clock, self._database)
        async with app.router.lifespan_context(app):
            self.listening.append(self._loop.time() + self.clock.paused)
            self._app = app
            _settle(ready)
            await self._stop.wait()
            self._app = None
            app.state.services.begin_closing()
            if calls := self._calls | self._sockets.tasks:
                await asyncio.wait(calls, timeout=GRACE_SECONDS)
            await self._end_calls()
        self._database.dispose()

    async def stop(self) -> None:
        """As SIGTERM does."""
        if self._life is not None:
            self._stop.set()
            await self._life
            self._life = None

    async def kill(self) -> None:
        """As SIGKILL does: nothing is finished, nobody gets a last answer."""
        if self._life is None:
            return
        life, self._life, self._app = self._life, None, None
        self._database.dispose()
        life.cancel()
        await asyncio.wait({life})
        await self._end_calls()

    async def _end_calls(self) -> None:
        for line in self._lines:
            line.tear()
        self._lines.clear()
        await asyncio.sleep(0.001)  # whoever listens learns that the line is gone
        tasks = self._calls | self._sockets.tasks
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def accept(self, line: Line, client: asyncio.BaseProtocol) -> End:
        """Take a websocket's connection, as uvicorn does; the client's end of it."""
        if self._app is None:
            raise ConnectionRefusedError("nobody listens")
        config = uvicorn.Config(self._app, lifespan="off", log_config=None, ws="websockets-sansio")
        config.load()
        protocol = HttpToolsProtocol(config, self._sockets, {}, self._loop)
        self._lines.append(line)
        return line.join(client, protocol)

    def begin(self, request: httpx.Request, body: bytes, *, is_cut: bool = False) -> Exchange | None:
        """Hand a request to the application; None when nobody listens."""
        if self._app is None:
            return None
        exchange = Exchange(body, is_cut=is_cut)
        work = self._carry_out(self._app, request, body, exchange)
        task = self._loop.create_task(work, context=Context())  # not the caller's: another process
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        return exchange

    async def _carry_out(self, app: FastAPI, request: httpx.Request, body: bytes, exchange: Exchange) -> None:
        url = request.url
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": request.method,
            "scheme": "http",
            "path": url.path,
            "raw_path": url.raw_path.partition(b"?")[0],
            "query_string": url.query,
            "root_path": "",
            "headers": [(name.lower(), value) for name, value in request.headers.raw],
            "client": ("127.0.0.1", 50_000),
            "server": ("127.0.0.1", 8490),
        }
        is_answered = False
        try:
            await app(scope, exchange.receive, exchange.send)
            is_answered = True
        except Exception as error:  # noqa: BLE001 - the verdict names it; uvicorn would log it and go on
            self._seen.broken.append(f"{request.method} {url.path} raised {error!r}")
        finally:
            answer = exchange.settle(is_answered=is_answered)
        if answer is not None:
            self._note(request, body, answer)

    def _note(self, request: httpx.Request, body: bytes, answer: Answer) -> None:
        path, verb, seen = request.url.path, verb_of(request.method, request.url.path), self._seen
        seen.trace.append(f"{self._loop.time():.6f} {path} {answer.status} {len(answer.body)}")
        if answer.status >= 500 and answer.status != 507:
            seen.broken.append(f"{request.method} {path}: {answer.status} {answer.body[:300]!r}")
        elif answer.status >= 400 and answer.body:
            code = json.loads(answer.body)["code"]
            seen.sometimes[f"{verb} refused: {code}"] += 1
            if code in ("not_authenticated", "not_permitted", "invalid_request", "wrong_host"):
                seen.broken.append(f"{request.method} {path}: {answer.body[:300]!r}")
        elif verb in ("claim", "start", "complete", "fail", "release") and answer.status == 200:
            key = json.loads(body)["claim_id"] if verb == "claim" else json.loads(body)["attempt"]
            seen.answered[verb, key] += 1
            if seen.answered[verb, key] == 2:
                seen.sometimes[f"{verb} replayed"] += 1
            if verb == "start" and seen.answered[verb, key] == 1:
                self._beat(key)
        elif verb == "heartbeat" and answer.status == 200:
            verdict = json.loads(answer.body)["verdict"]
            seen.sometimes[f"heartbeat told {verdict}"] += 1
            if verdict == "continue":
                self._beat(json.loads(body)["attempt"])

    def _beat(self, attempt: str) -> None:
        self._seen.beats.setdefault(attempt, []).append(self._loop.time() + self.clock.paused)

    async def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """The operator's own call, over a connection that never fails; (0, None) when nobody listens."""
        token = (self.settings.data / "tokens" / "operator").read_text().strip()
        request = httpx.Request(method, URL + path, json=body, headers={"Authorization": f"Bearer {token}"})
        exchange = self.begin(request, request.read())
        if exchange is None:
            return 0, None
        try:
            answer = await exchange.answered()
        except ConnectionLost:
            return 0, None
        return answer.status, json.loads(answer.body) if answer.body else None


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
