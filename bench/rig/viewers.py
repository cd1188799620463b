"""Many viewers of one log, of which some stall: `python -m bench.rig.viewers ADDRESS TOKEN JOB VIEWERS STALLING`.

Says `ready` when all are connected. Each line of its standard input is a length of the log; it says `done` when all
viewers have read so far, those that stall only at the first one: afterwards they take nothing any more.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect

RECEIVE_BYTES = 64 * 1024
"""Small, so that what a stalled viewer does not take waits at the coordinator's end and not in the kernel."""


class Viewer:
    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._read = 0

    async def read_to(self, length: int) -> None:
        while self._read < length:
            message = await self._connection.recv()
            self._read += len(message) if isinstance(message, bytes) else 0


async def viewer(address: str, token: str) -> Viewer:
    found = urlsplit(address)
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
    plain.connect((found.hostname, found.port))
    headers = {"Authorization": f"Bearer {token}"}
    return Viewer(
        await connect(
            address,
            sock=plain,
            additional_headers=headers,
            compression=None,
            max_size=None,
            max_queue=1,
            ping_interval=None,
        )
    )


async def main(address: str, token: str, job: str, count: int, stalling: int) -> None:
    viewers = [await viewer(f"{address}/v1/job/{job}/log", token) for _ in range(count)]
    reading = viewers
    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        await asyncio.gather(*(viewer.read_to(int(line)) for viewer in reading))
        print("done", flush=True)
        reading = viewers[stalling:]


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])))
