"""Large bytes to and from the coordinator, each named by its content, each going on where an earlier try ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx

from fleet_agent.bundle import Bundle
from fleet_agent.uplink import CONNECT_SECONDS, Refused, Uplink, number, parse
from fleet_protocol.ids import Sha256
from fleet_protocol.workers import UploadAnswer

BLOCK_BYTES = 256 * 1024
SMALL_BYTES = 16 * 1024
"""Quicker sent again than asked for."""
UPLOAD_TIMEOUT = httpx.Timeout(
    300.0, connect=CONNECT_SECONDS
)  # the coordinator reads it all again before it answers

Expect = Callable[[int], Awaitable[None]]
"""Told the whole size before a byte is written; an OSError of it ends the download."""
Told = Callable[[int, int], None]
"""Told bytes that are here, and bytes in all."""


async def upload(uplink: Uplink, bundle: Bundle, path: str) -> None:
    """Store a file at `path`. Unreachable, Refused, OSError.

    Bytes that are there already, from whomever, are brought by an empty last part: without one the coordinator
    would not know that this attempt made them too.
    """
    size, is_small = bundle.size_bytes, bundle.size_bytes <= SMALL_BYTES
    offset = 0 if is_small else await _stored(uplink, path, size)
    headers = {"Content-Length": str(size - offset), "Content-Type": "application/octet-stream"}
    if offset:
        headers["Content-Range"] = f"bytes {offset}-{size - 1}/{size}"
    content: bytes | AsyncIterator[bytes] = b""
    if offset < size:
        content = bundle.path.read_bytes() if is_small else _blocks(uplink, bundle.path, offset)
    response = await uplink.send("PUT", path, content=content, headers=headers, timeout=UPLOAD_TIMEOUT)
    parse(response, UploadAnswer)


async def _stored(uplink: Uplink, path: str, size: int) -> int:
    """Bytes that need not be sent any more."""
    try:
        response = await uplink.send("HEAD", path)
    except Refused as refusal:
        if refusal.problem.status == httpx.codes.NOT_FOUND:
            return 0
        raise
    if response.headers.get("Upload-Complete") == "?1":
        return size
    return number(response, "Upload-Offset")


async def _blocks(uplink: Uplink, path: Path, offset: int) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        file.seek(offset)
        while block := file.read(BLOCK_BYTES):
            yield block
            uplink.moves()


async def download(uplink: Uplink, sha256: Sha256, target: Path, expect: Expect, told: Told) -> None:
    """Add to `target` what it has not yet of a blob. What is there afterwards is not verified.

    Unreachable, Refused, OSError.
    """
    have = _size(target)
    headers = {"Range": f"bytes={have}-"} if have else {}
    try:
        async with uplink.receive(f"/v1/blob/{sha256}", headers) as response:
            if response.status_code != httpx.codes.PARTIAL_CONTENT:
                have = 0  # a proxy may not know ranges
            total = have + number(response, "Content-Length")
            await expect(total)
            with target.open("r+b" if have else "wb") as file:
                file.seek(have)
                async for block in response.aiter_raw(BLOCK_BYTES):
                    await asyncio.to_thread(file.write, block)
                    have += len(block)
                    told(have, total)
    except Refused as refusal:
        if refusal.problem.status != httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise  # all of it is here, or more; the digest will tell


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
