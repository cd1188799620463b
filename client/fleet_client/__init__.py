"""The typed client of fleet's coordinator, and the `fleet` command line on top of it.

from fleet_client import connect

async with connect() as fleet:
    print((await fleet.jobs(status=["failed"])).jobs)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fleet_client.client import FleetClient as FleetClient
    from fleet_client.client import connect as connect

__all__ = ["FleetClient", "connect"]


def __getattr__(name: str) -> object:
    """Loads the client on first use: `fleet --help` shall not pay for an HTTP library."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import fleet_client.client

    return getattr(fleet_client.client, name)
