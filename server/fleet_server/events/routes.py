"""`GET` and `WS /v1/events`: a snapshot, then the history in order, by cursor."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, WebSocket

from fleet_protocol.events import EventPage
from fleet_server.access.guard import Guarded, GuardedRoute
from fleet_server.errors import CursorUnknown
from fleet_server.events.follow import Follower
from fleet_server.events.queries import events_after, events_before, is_known
from fleet_server.services import Use
from fleet_server.sockets import until_gone

router = APIRouter(prefix="/v1", tags=["events"], route_class=GuardedRoute)
After = Annotated[int, Query(ge=0, le=2**63 - 1)]


@router.get("/events")
async def list_events(
    use: Use,
    after: After = 0,
    before: Annotated[int | None, Query(ge=1, le=2**63 - 1)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 500,
    wait: Annotated[float, Query(ge=0, le=30)] = 0,
) -> EventPage:
    """Events after a cursor of this history (0 is its beginning), waiting up to `wait` seconds for one.

    With `before`, the last ones before that event: a way back through the history, which waits for nothing.
    """
    async with use.database.read() as connection:
        if not await is_known(connection, after):
            raise CursorUnknown
    if before is None:
        await use.feed.wait_beyond(after, wait)
    async with use.database.read() as connection:
        if before is None:
            found = await events_after(connection, after, limit)
        else:
            found = await events_before(connection, after, before, limit)
    return EventPage(events=found, next=found[-1].event if found else after)


@router.websocket("/events", dependencies=[Guarded])
async def follow_events(websocket: WebSocket, use: Use, after: After | None = None) -> None:
    """Snapshot (unless `after` is a cursor of this history), then every event once, in order, and live frames."""
    await websocket.accept()
    follower = Follower(
        use.database, use.feed, use.live, use.jobs, use.workers, use.manifests, websocket.send_text
    )
    await until_gone(websocket, follower.run(after))
