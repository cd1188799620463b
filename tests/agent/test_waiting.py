from __future__ import annotations

import asyncio
import time

from fleet_agent.waiting import is_set_within


async def test_an_event_of_the_very_moment_in_which_the_time_runs_out_is_not_lost() -> None:
    event = asyncio.Event()
    waiting = asyncio.create_task(is_set_within(event, 0.01))
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_later(0.02, event.set)
    time.sleep(0.05)  # noqa: ASYNC251 - a loop that is late finds both due, the end of the time first
    assert await waiting


async def test_without_it_the_time_runs_out() -> None:
    assert not await is_set_within(asyncio.Event(), 0.01)
