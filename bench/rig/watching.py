"""Viewers of what `printing` prints, one a log: `python -m bench.rig.watching ADDRESS TOKEN JOB…`.

Says `ready` when all are connected; at the end of all logs prints one JSON object: how many lines came, and how long
after they were printed.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from websockets.asyncio.client import ClientConnection, connect

from bench.rig.caller import percentile


async def watch(socket: ClientConnection, late: list[float]) -> None:
    rest = b""
    async for message in socket:
        if isinstance(message, bytes):
            now = time.monotonic_ns()
            *lines, rest = (rest + message).split(b"\n")
            late += [(now - int(line.split(b" ", 1)[0])) / 1e9 for line in lines]


async def main(address: str, token: str, jobs: list[str]) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    sockets = [
        await connect(f"{address}/v1/job/{job}/log", additional_headers=headers, proxy=None, max_size=None)
        for job in jobs
    ]
    print("ready", flush=True)
    late: list[float] = []
    await asyncio.gather(*(watch(socket, late) for socket in sockets))
    told = {
        "lines": len(late),
        "median_ms": percentile(late, 0.5),
        "p99_ms": percentile(late, 0.99),
        "worst_ms": percentile(late, 1),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
