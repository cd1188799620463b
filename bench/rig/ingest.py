"""Agents that send logs as fast as they are acknowledged: `python -m bench.rig.ingest ADDRESS TOKEN SECONDS`.

Reads a JSON object of workers by attempt from its standard input; each attempt has a websocket of its own and one
chunk on its way, as the protocol has it. Prints one JSON object: what was acknowledged, and how long it took.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from random import Random
from uuid import uuid4

from websockets.asyncio.client import ClientConnection, connect

from fleet_protocol.ids import AttemptId, WorkerId
from fleet_protocol.logs import MAX_CHUNK_BYTES, Ack, Ask, Resume, StreamHello, data_frame, to_agent

LINE_BYTES = 80


def lines(size: int) -> bytes:
    """So many bytes of lines that are not all the same."""
    luck = Random(0)
    made = (
        f"epoch {n:5} loss {luck.random():.9f} accuracy {luck.random():.9f}"
        for n in range(size // LINE_BYTES)
    )
    return b"".join(line.encode().ljust(LINE_BYTES - 1, b".") + b"\n" for line in made)


class Sender:
    """One attempt's log."""

    def __init__(self, socket: ClientConnection, worker: WorkerId, attempt: AttemptId) -> None:
        self._socket, self._worker, self._attempt = socket, worker, attempt
        self.durable = 0

    async def begin(self) -> None:
        await self._socket.send(StreamHello(worker=self._worker, incarnation=str(uuid4())).model_dump_json())
        await self._socket.send(Ask(attempt=self._attempt).model_dump_json())
        await self._heard()

    async def send(self, chunk: bytes, until: float) -> None:
        while time.perf_counter() < until:
            await self._socket.send(data_frame(self._attempt, self.durable, chunk))
            await self._heard()

    async def _heard(self) -> None:
        word = to_agent.validate_json(await self._socket.recv())
        assert isinstance(word, Ack | Resume), word
        self.durable = word.durable


async def main(address: str, token: str, seconds: float, workers: dict[AttemptId, WorkerId]) -> None:
    chunk = lines(MAX_CHUNK_BYTES)
    headers = {"Authorization": f"Bearer {token}"}
    senders = []
    for attempt, worker in workers.items():
        socket = await connect(
            address, additional_headers=headers, compression=None, proxy=None, max_size=None
        )
        senders.append(Sender(socket, worker, attempt))
        await senders[-1].begin()
    began = time.perf_counter()
    await asyncio.gather(*(sender.send(chunk, began + seconds) for sender in senders))
    took = time.perf_counter() - began
    print(json.dumps({"bytes": sum(sender.durable for sender in senders), "seconds": took}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3]), json.load(sys.stdin)))
