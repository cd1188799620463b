"""The one way in which a loop rests: until something happens, but only so long."""

from __future__ import annotations

import asyncio
import contextlib


async def is_set_within(event: asyncio.Event, seconds: float) -> bool:
    """True as soon as `event` is set; False after `seconds` without it."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()  # also in the very moment in which the time ran out
