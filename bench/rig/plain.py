"""The limits that logs and uploads are held against: `python -m bench.rig.plain FOLDER` prints its port.

The same server program with the same options as the coordinator's, and under it no more than the task: a websocket
that writes what comes, syncs it and says how much there is, and an upload that is written, hashed and synced.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

import uvicorn

from fleet_protocol.logs import parse_data_frame


class Plain:
    """An ASGI application without a framework."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await self._logs(receive, send)
        else:
            await self._upload(scope["path"].rpartition("/")[2], receive, send)

    async def _logs(self, receive: Any, send: Any) -> None:
        files: dict[str, int] = {}
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            if (frame := message.get("bytes")) is not None:
                attempt, offset, data = parse_data_frame(frame)
                if attempt not in files:
                    files[attempt] = os.open(self._folder / attempt, os.O_WRONLY | os.O_CREAT)
                await asyncio.to_thread(_write, files[attempt], data, offset)
                word = {"type": "ack", "attempt": attempt, "durable": offset + len(data)}
            else:
                word = json.loads(message["text"])
                if word["type"] != "ask":
                    continue
                word = {"type": "resume", "attempt": word["attempt"], "durable": 0}
            await send({"type": "websocket.send", "text": json.dumps(word)})
        for descriptor in files.values():
            os.close(descriptor)

    async def _upload(self, name: str, receive: Any, send: Any) -> None:
        digest, more = hashlib.sha256(), True
        with (self._folder / name).open("wb") as file:
            while more:
                message = await receive()
                digest.update(message["body"])
                file.write(message["body"])
                more = message["more_body"]
            file.flush()
            os.fsync(file.fileno())
        status = 201 if digest.hexdigest() == name else 422
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})


def _write(file: int, data: bytes, offset: int) -> None:
    os.pwrite(file, data, offset)
    os.fdatasync(file)


def main(folder: Path) -> None:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(1024)  # whoever calls before the server is ready shall wait
    print(listener.getsockname()[1], flush=True)
    config = uvicorn.Config(
        Plain(folder), log_config=None, access_log=False, lifespan="off", ws="websockets-sansio", ws_max_size=2**20
    )  # fmt: skip
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
