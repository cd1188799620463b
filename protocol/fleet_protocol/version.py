"""Versions: of the program (one distribution, one number) and of the agent protocol."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version

PROTOCOL = 1
"""Spoken by agents. A coordinator accepts its own number and the one before."""

OLDEST_PROTOCOL = 1
DEFAULT_PORT = 8490
DEFAULT_URL = f"http://127.0.0.1:{DEFAULT_PORT}"


@cache
def program_version() -> str:
    """The installed distribution's version; `0+source` when run from files that were never installed."""
    try:
        return version("fleet-lab")
    except PackageNotFoundError:
        return "0+source"
