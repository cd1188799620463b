"""How the dashboard gets at its coordinator: the address, the best token at hand, a client on demand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fleet_client.errors import FleetError
from fleet_client.settings import find_target

if TYPE_CHECKING:
    from fleet_client.client import FleetClient


class Access:
    """What `url`, or the context of that name, or else the settings mean; FleetError where that is nothing."""

    def __init__(self, url: str | None = None, *, context: str | None = None) -> None:
        self._asked = url, context
        self._target = find_target(url, context=context)
        self.url = self._target.url

    @property
    def context(self) -> str:
        """The name that the settings have for it; empty for none."""
        return self._target.context

    @property
    def read_only(self) -> bool:
        return self._target.read_only

    def renew(self) -> bool:
        """Look for a token again; True when another one is there now (a coordinator started since, or anew)."""
        before, (url, context) = self._target, self._asked
        try:
            self._target = find_target(url, context=context)
        except FleetError:  # the settings were made unreadable meanwhile
            return False
        return self._target.token != before.token

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[FleetClient]:
        # The HTTP and websocket libraries take as long to import as the first screen to draw: after it, aside.
        client = await asyncio.to_thread(_load_client)
        async with client(self.url, self._target.token) as fleet:
            yield fleet


def _load_client() -> type[FleetClient]:
    from fleet_client.client import FleetClient

    return FleetClient
