"""Everything a request may need, made once in the application's lifespan and read by the routes as `Use`."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection

from fleet_server.access.service import Access
from fleet_server.artifacts.service import Artifacts
from fleet_server.blobs.service import Blobs
from fleet_server.blobs.superseded import Superseded
from fleet_server.clock import Clock
from fleet_server.database import Database
from fleet_server.events.feed import Feed
from fleet_server.events.live import Live
from fleet_server.exposition.meters import Meters
from fleet_server.jobs.service import Jobs
from fleet_server.logs.service import Logs
from fleet_server.logs.stream import Streams
from fleet_server.manifest.service import Manifests
from fleet_server.matching.loop import MatchingLoop
from fleet_server.metrics.service import Metrics
from fleet_server.prune.service import Prune
from fleet_server.settings import Settings
from fleet_server.workers.service import Workers


@dataclass(slots=True)
class Services:
    """The coordinator's parts, wired."""

    settings: Settings
    clock: Clock
    database: Database
    access: Access
    matching: MatchingLoop
    workers: Workers
    jobs: Jobs
    manifests: Manifests
    artifacts: Artifacts
    blobs: Blobs
    superseded: Superseded
    prune: Prune
    logs: Logs
    metrics: Metrics
    streams: Streams
    feed: Feed
    live: Live
    meters: Meters
    loops: list[asyncio.Task[None]] = field(default_factory=list)

    def begin_closing(self) -> None:
        """Let go of everybody who waits, so that the server can end its connections."""
        self.matching.close()
        self.feed.close()
        self.streams.close()
        self.logs.store.stop()


async def _services(connection: HTTPConnection) -> Services:
    services: Services = connection.app.state.services
    return services


Use = Annotated[Services, Depends(_services)]
