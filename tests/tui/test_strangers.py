"""What answers at the address may be anything: the dashboard says what it got and goes on trying."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
from websockets.asyncio.server import ServerConnection, serve

from fleet_tui import transport
from fleet_tui.access import Access
from fleet_tui.app import FleetTui
from tests.tui.driver import Dashboard
from tests.tui.recorded import NOW, Recorded, snapshot

ANSWERS = {
    b"\x00\xff garbage\r\n\r\n": "No answer from",
    b"HTTP/1.1 500 Oh\r\nContent-Length: 4\r\n\r\noops": "HTTP 500 and no explanation",
    b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>": "HTTP 200 and no explanation",
}
WORDS = {
    '{"type": "hologram"}': "It may be of another version",
    b"\xff\xfe": "It may be of another version",
    '{"type": "snapshot", "jobs": 7}': "It may be of another version",
}


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
