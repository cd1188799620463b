"""How the dashboard gets at its coordinator: the address, the best token at hand, a client on demand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fleet_client.settings import checked_url
from fleet_protocol.local import find_token

if TYPE_CHECKING:
    from fleet_client.client import FleetClient


class Access:
    """One coordinator and the token to show it. BadAddress where `url` is none."""

    def __init__(self, url: str) -> None:
        self.url = checked_url(url)
        self._token: str | None = None
        self.read_only = False
        """Only a viewer's token was found."""
        self.renew()

    def renew(self) -> bool:
        """Look for a token again; True when another one is there now (a coordinator started since, or anew)."""
        before = self._token
        operator = find_token(self.url, "operator")
        self._token = operator or find_token(self.url, "viewer")
        self.read_only = self._token is not None and operator is None
        return self._token != before

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[FleetClient]:
        # The HTTP and websocket libraries take as long to import as the first screen to draw: after it, aside.
        client = await asyncio.to_thread(_load_client)
        async with client(self.url, self._token) as fleet:
            yield fleet


def _load_client() -> type[FleetClient]:
    from fleet_client.client import FleetClient

    return FleetClient
