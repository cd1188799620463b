"""Deleting what nothing refers to: each part says what of its own that is, and takes it away."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from fleet_protocol.ids import Sha256
from fleet_protocol.prune import PruneAnswer, Unused
from fleet_server.clock import Clock
from fleet_server.content import ContentStore, unfinished

YOUNG = timedelta(hours=1)
"""What came within it is left alone: a push is followed by a reload, an upload by a report."""


class Keeper(Protocol):
    """Whoever stores something."""

    async def unused(self, before: datetime) -> list[Unused]:
        """What nothing refers to, of all that was stored before that time."""
        ...

    async def forget(self, item: Unused) -> bool:
        """Delete it, unless something refers to it by now."""
        ...


@dataclass(frozen=True, slots=True)
class Unfinished:
    """Uploads that were begun and never gone on with."""

    store: ContentStore

    async def unused(self, before: datetime) -> list[Unused]:
        found = await asyncio.to_thread(self.store.untouched, unfinished("*"), before)
        return [Unused(kind="upload", id=sha256, size_bytes=size) for sha256, size in found.items()]

    async def forget(self, item: Unused) -> bool:
        if self.store.lock(Sha256(item.id)).locked():
            return False
        self.store.path(unfinished(item.id)).unlink(missing_ok=True)
        return True


@dataclass(frozen=True, slots=True)
class Prune:
    clock: Clock
    keepers: Sequence[Keeper]

    async def run(self, *, dry_run: bool) -> PruneAnswer:
        before = self.clock.now() - YOUNG
        items: list[Unused] = []
        for keeper in self.keepers:
            for item in await keeper.unused(before):
                if dry_run or await keeper.forget(item):
                    items.append(item)
        return PruneAnswer(dry_run=dry_run, items=tuple(items))
