"""Who uses the fleet meanwhile: an operator who changes their mind, and somebody who means harm."""

from __future__ import annotations

import asyncio
import hashlib
import random
import re
import socket
import time
from collections.abc import Mapping

import httpx

from tests.chaos import trainer
from tests.chaos.fleet import Fleet

TERMINAL = ("completed", "failed", "cancelled")
LATE_SECONDS = 1.0
SIGN_OF_LIFE = re.compile(rb"POST /v1/job/(\S+/heartbeat|claim) ")
ENOUGH = 10
"""Jobs that wait or run; with fewer, what is over is trained again."""


async def operate(fleet: Fleet, luck: random.Random) -> None:
    """Cancel, requeue, drain and resume at random, and keep the machines busy."""
    async with fleet.client() as http:
        while True:
            await asyncio.sleep(luck.uniform(0.1, 0.8))
            try:
                await _order(http, fleet, luck)
            except httpx.HTTPError:
                await asyncio.sleep(0.3)


async def _order(http: httpx.AsyncClient, fleet: Fleet, luck: random.Random) -> None:
    jobs = (await http.get("/v1/jobs", params={"limit": 1000})).raise_for_status().json()["jobs"]
    over = [job["job_id"] for job in jobs if job["status"] in TERMINAL]
    lost = [job["job_id"] for job in jobs if job["status"] in ("failed", "cancelled")]
    under_way = [job["job_id"] for job in jobs if job["status"] not in TERMINAL]
    if over and len(under_way) < ENOUGH:
        await http.post(f"/v1/job/{luck.choice(over)}/requeue", json={"again": True})
    what = luck.random()
    if under_way and what < 0.15:
        await http.post(f"/v1/job/{luck.choice(under_way)}/cancel", json={})
    elif what < 0.2:
        await http.post("/v1/manifest/reload", json={})
    elif what < 0.25:
        machine = luck.choice(fleet.machines).name
        await http.post(f"/v1/worker/{machine}/drain", json={"reason": "chaos"})
        await asyncio.sleep(luck.uniform(0.2, 2))
        await http.post(f"/v1/worker/{machine}/resume", json={})
    elif lost and what < 0.4:
        await http.post(f"/v1/job/{luck.choice(lost)}/accept-result", json={})


async def attack(fleet: Fleet, luck: random.Random) -> None:
    """Damaged and cut uploads, logs from nowhere, and everything an agent ever said, said again."""
    deeds = (_damaged, _truncated, _from_nowhere, _once_more, _again, _again, _again)
    async with fleet.client("agent") as http, fleet.client() as looking:
        while True:
            await asyncio.sleep(luck.uniform(0.1, 0.6))
            try:
                jobs = (await looking.get("/v1/jobs", params={"limit": 1000})).raise_for_status().json()
                attempts = [job["attempt"] for job in jobs["jobs"] if job["attempt"]]
                if attempts:
                    await luck.choice(deeds)(fleet, http, luck, luck.choice(attempts))
            except (httpx.HTTPError, OSError, ValueError):
                await asyncio.sleep(0.3)


async def _damaged(fleet: Fleet, http: httpx.AsyncClient, luck: random.Random, attempt: str) -> None:
    """Whole, but not what its name says."""
    meant = luck.randbytes(luck.randrange(1, 200_000))
    sent = bytearray(meant)
    sent[luck.randrange(len(sent))] ^= 1
    name = hashlib.sha256(meant).hexdigest()
    answer = await http.put(f"/v1/model/{name}?attempt={attempt}", content=bytes(sent))
    if answer.status_code in (200, 201):
        fleet.broken.append(f"a damaged upload was taken for {name}")
    await _never(http, fleet, name)


async def _truncated(fleet: Fleet, http: httpx.AsyncClient, luck: random.Random, attempt: str) -> None:
    """The line breaks in the middle; then something else claims to be the rest."""
    meant = luck.randbytes(luck.randrange(2, 200_000))
    name = hashlib.sha256(meant).hexdigest()
    path = f"/v1/model/{name}?attempt={attempt}"
    await asyncio.to_thread(_send_half, fleet, path, meant, dict(http.headers))
    where = {"Content-Range": f"bytes {luck.randrange(len(meant))}-{len(meant) - 1}/{len(meant)}"}
    answer = await http.put(path, content=b"\0" * luck.randrange(1, len(meant)), headers=where)
    if answer.status_code == 201 and answer.json().get("stored"):
        fleet.broken.append(f"a torn upload was taken for {name}")
    await _never(http, fleet, name)


def _send_half(fleet: Fleet, path: str, body: bytes, headers: Mapping[str, str]) -> None:
    head = f"PUT {path} HTTP/1.1\r\nHost: 127.0.0.1:{fleet.port}\r\n"
    head += f"Authorization: {headers['authorization']}\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", fleet.port), timeout=2) as line:
        line.sendall(head.encode() + body[: len(body) // 2])


async def _never(http: httpx.AsyncClient, fleet: Fleet, name: str) -> None:
    if (await http.get(f"/v1/model/{name}")).status_code == 200:
        fleet.broken.append(f"bytes that never came whole are visible as {name}")


async def _from_nowhere(fleet: Fleet, http: httpx.AsyncClient, luck: random.Random, attempt: str) -> None:
    """Log bytes far beyond what is there: refused, or the log would have a gap."""
    headers = {"Upload-Offset": str(luck.randrange(2**40, 2**41))}
    answer = await http.patch(f"/v1/attempt/{attempt}/log", content=b"forged", headers=headers)
    if answer.is_success:
        fleet.broken.append(f"the log of {attempt} took bytes from nowhere")


async def _once_more(fleet: Fleet, http: httpx.AsyncClient, luck: random.Random, attempt: str) -> None:
    """Bytes that are there already change nothing; others in their place are refused."""
    path, headers = f"/v1/attempt/{attempt}/log", {"Upload-Offset": "0"}
    true = trainer.block(attempt, 0)[: luck.randrange(10, 1000)]
    if int((await http.head(path)).headers.get("Upload-Offset", 0)) < len(true):
        return
    await http.patch(path, content=true, headers=headers)
    if (await http.patch(path, content=true[::-1], headers=headers)).is_success:
        fleet.broken.append(f"the log of {attempt} was given other bytes than it has")


async def _again(fleet: Fleet, http: httpx.AsyncClient, luck: random.Random, attempt: str) -> None:
    """A request is delivered once more: a report any time later, a sign of life while it may still be one."""
    now = time.monotonic()
    said = [
        request
        for machine in fleet.machines
        for when, request in machine.link.requests
        if now - when < LATE_SECONDS or not SIGN_OF_LIFE.match(request)
    ]
    if not said:
        return
    head, _, body = luck.choice(said).partition(b"\r\n\r\n")
    path = head.split(b" ", 2)[1].decode()
    await http.post(path, content=body, headers={"Content-Type": "application/json"})
    fleet.sometimes[f"said again: {path.rpartition('/')[2]}"] += 1
