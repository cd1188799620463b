"""Sending a data set or a source: a file, or a folder as its archive, going on where an earlier try ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from fleet_client.errors import Conflict, Invalid, NotFound, Unreachable, Unreadable
from fleet_protocol.archive import NotArchived, content_size, stream_content
from fleet_protocol.errors import Code
from fleet_protocol.ids import Sha256

if TYPE_CHECKING:
    import httpx

TRIES = 3  # in a row that bring nothing further
PAUSE_SECONDS = 0.5
Told = Callable[[int, int], None]
"""Hears how many bytes are there, and how many it will be."""


class Ask(Protocol):
    """One request: a success, or one of this client's errors."""

    async def __call__(
        self,
        method: str,
        path: str,
        *,
        content: AsyncIterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response: ...


async def push(ask: Ask, path: Path, sha256: Sha256, told: Told) -> None:
    """Store what is at `path` as blob `sha256`; Unreadable where it is not, or no longer, what that names."""
    try:
        size = await asyncio.to_thread(content_size, path)
        await Push(ask, path, sha256, size, told).persist()
    except (OSError, NotArchived) as error:
        raise Unreadable(f"{path} cannot be pushed: {error}.") from error
    except Invalid as error:
        if error.code != Code.DIGEST_MISMATCH:
            raise
        raise Unreadable(
            f"{path} changed while it was pushed.", "run it again when nothing writes there"
        ) from error


@dataclass(frozen=True, slots=True)
class Push:
    ask: Ask
    path: Path
    sha256: Sha256
    size: int
    told: Told

    async def persist(self) -> None:
        """Send what is missing; try again as long as that gets further."""
        furthest, left = -1, TRIES
        while True:
            try:
                offset, is_whole = await self.stored()
                if offset > furthest:
                    furthest, left = offset, TRIES
                self.told(offset, self.size)
                if not is_whole:
                    await self.send(offset)
                return
            except (Unreachable, Conflict):  # a conflict: somebody else sends the same bytes
                left -= 1
                if left == 0:
                    raise
                await asyncio.sleep(PAUSE_SECONDS)

    async def stored(self) -> tuple[int, bool]:
        """How far an earlier try came, and whether it is all there."""
        try:
            answer = await self.ask("HEAD", self.where)
        except NotFound:
            return 0, False
        return int(answer.headers["Upload-Offset"]), answer.headers.get("Upload-Complete") == "?1"

    async def send(self, offset: int) -> None:
        headers = {"Content-Length": str(self.size - offset), "Content-Type": "application/octet-stream"}
        if offset:
            headers["Content-Range"] = f"bytes {offset}-{self.size - 1}/{self.size}"
        await self.ask("PUT", self.where, content=self.blocks(offset), headers=headers)

    @property
    def where(self) -> str:
        return f"/v1/blob/{self.sha256}"

    async def blocks(self, sent: int) -> AsyncIterator[bytes]:
        """Exactly what was announced."""
        async for block in stream_content(self.path, sent):
            sent += len(block)
            if sent > self.size:
                break
            yield block
            self.told(sent, self.size)
        if sent != self.size:
            raise NotArchived("it changed meanwhile")
