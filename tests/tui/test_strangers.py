"""What answers at the address may be anything: the dashboard says what it got and goes on trying."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from fleet_client import streams
from fleet_client.errors import NotAuthenticated
from fleet_protocol.errors import Code
from fleet_protocol.events import LiveFrame
from fleet_tui import transport
from fleet_tui.access import Access
from fleet_tui.app import FleetTui
from tests.tui.driver import Dashboard, dashboard
from tests.tui.recorded import NOW, Recorded, job, refusal, snapshot

ANSWERS = {
    b"\x00\xff garbage\r\n\r\n": "No answer from",
    b"HTTP/1.1 500 Oh\r\nContent-Length: 4\r\n\r\noops": "HTTP 500 and no explanation",
    b'HTTP/1.1 404 No\r\nContent-Length: 22\r\n\r\n{"detail":"Not Found"}': "HTTP 404 and no explanation",
    b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>": "HTTP 200 and no explanation",
}
WORDS = {
    '{"type": "hologram"}': "It may be of another version",
    b"\xff\xfe": "It may be of another version",
    '{"type": "snapshot", "jobs": 7}': "It may be of another version",
}


REVOKED = (
    b'{"title": "Not authenticated", "status": 401, "code": "not_authenticated", "detail": "It was revoked."}'
)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "PAUSES", (0.05,))
    monkeypatch.setenv("FLEET_TOKEN", "any")


async def test_no_coordinator_at_all_then_one_of_another_version_then_a_good_one() -> None:
    says: list[bytes | str] = []
    sent: list[bytes | str] = []

    async def stranger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(bytes(says[0]))  # type: ignore[arg-type]  # only bytes are put in while it serves
        await writer.drain()
        writer.close()

    async def newer(socket: ServerConnection) -> None:
        sent.append(says[0])
        await socket.send(says[0])
        await socket.wait_closed()

    async with AsyncExitStack() as open_:
        says.append(next(iter(ANSWERS)))
        server = await open_.enter_async_context(await asyncio.start_server(stranger, "127.0.0.1", 0))
        port = server.sockets[0].getsockname()[1]
        app = FleetTui(Access(f"http://127.0.0.1:{port}"), clock=lambda: NOW)
        pilot = await open_.enter_async_context(app.run_test(size=(80, 24)))
        shown = Dashboard(app, pilot, Recorded())
        for answer, sentence in ANSWERS.items():
            says[0] = answer
            await shown.until(sentence)
        server.close()
        await server.wait_closed()
        await open_.enter_async_context(serve(newer, "127.0.0.1", port))
        for word, sentence in WORDS.items():
            says[0] = word
            await shown.until(lambda word=word: sent.count(word) > 1)  # type: ignore[misc]  # read, and tried again
            await shown.until(sentence)
        says[0] = snapshot([]).model_dump_json()
        await shown.until("● live")


async def test_a_coordinator_that_takes_the_call_and_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "OPEN_SECONDS", 0.05)
    held = asyncio.Event()

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await held.wait()
        writer.close()

    async with await asyncio.start_server(mute, "127.0.0.1", 0) as server:
        app = FleetTui(Access(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"), clock=lambda: NOW)
        async with app.run_test(size=(80, 24)) as pilot:
            shown = Dashboard(app, pilot, Recorded())
            await shown.until("timed out during opening handshake")
            await shown.press("question_mark")
            await shown.until("all words must be met")
        held.set()


async def test_a_coordinator_that_falls_silent_is_not_called_live() -> None:
    clock = [NOW]
    told = Recorded()
    told.tell(snapshot([]))
    app = FleetTui(told, clock=lambda: clock[0])
    async with app.run_test(size=(80, 24)) as pilot:
        shown = Dashboard(app, pilot, told)
        await shown.until("● live")
        clock[0] += timedelta(seconds=11)
        await shown.until("! no word for 11s")
        told.tell(LiveFrame(server_time=clock[0]))
        await shown.until("● live")


async def test_a_token_that_is_revoked_while_it_runs_ends_it_with_the_coordinators_words() -> None:
    calls: list[Request] = []

    def first_only(_: ServerConnection, request: Request) -> Response | None:
        calls.append(request)
        headers = Headers({"Content-Type": "application/problem+json", "Content-Length": str(len(REVOKED))})
        return None if len(calls) == 1 else Response(401, "Unauthorized", headers, REVOKED)

    async def once(socket: ServerConnection) -> None:
        await socket.send(snapshot([job("a")]).model_dump_json())
        await gone.wait()

    gone = asyncio.Event()
    async with serve(once, "127.0.0.1", 0, process_request=first_only) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        app = FleetTui(Access(f"http://127.0.0.1:{port}"), clock=lambda: NOW)
        async with app.run_test(size=(80, 24)) as pilot:
            shown = Dashboard(app, pilot, Recorded())
            await shown.until("○ 1 pending")
            gone.set()
            await shown.until(lambda: app.refusal is not None)
    assert app.return_code == 1
    assert "It was revoked." in str(app.refusal)


async def test_an_order_with_a_token_that_expired_is_told_in_the_coordinators_words() -> None:
    told = Recorded()
    told.tell(snapshot(told.hold(job("a", "running"))))
    told.refusals[job("a").job_id] = NotAuthenticated(refusal(Code.NOT_AUTHENTICATED, 401, "It has expired."))
    async with dashboard(told) as shown:
        await shown.until("● 1 running")
        await shown.press("x")
        await shown.until("Cancel this job?")
        await shown.press("y")
        await shown.until("✗ a: It has expired.")
        assert shown.app.is_running
