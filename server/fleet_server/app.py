"""The application: wiring, routers, error handling, and the loops that run beside the requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta

import structlog
from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline

from fleet_protocol.plan import ReloadRequest
from fleet_protocol.version import program_version
from fleet_server import health, openapi, problems
from fleet_server.access.bearers import Bearers
from fleet_server.access.local import LocalOnly
from fleet_server.access.queries import all_held
from fleet_server.access.routes import router as access_routes
from fleet_server.access.service import Access
from fleet_server.access.tokens import open_tokens
from fleet_server.artifacts.index import Index
from fleet_server.artifacts.routes import router as artifact_routes
from fleet_server.artifacts.service import Artifacts
from fleet_server.blobs.queries import checkpoints
from fleet_server.blobs.routes import router as blob_routes
from fleet_server.blobs.service import Blobs
from fleet_server.blobs.superseded import Superseded
from fleet_server.clock import Clock, SteadyClock
from fleet_server.content import ContentStore
from fleet_server.database import Database
from fleet_server.errors import BlobMissing, StorageFull
from fleet_server.events.feed import Feed
from fleet_server.events.hook import FailureHook
from fleet_server.events.live import Live
from fleet_server.events.queries import last_event
from fleet_server.events.routes import router as event_routes
from fleet_server.exposition.meters import Meters
from fleet_server.exposition.routes import router as exposition_routes
from fleet_server.jobs.queries import open_attempts
from fleet_server.jobs.routes import router as job_routes
from fleet_server.jobs.service import Jobs
from fleet_server.jobs.sweep import Sweep
from fleet_server.logs.closing import Closing
from fleet_server.logs.pruning import ExpiredLogs
from fleet_server.logs.routes import router as log_routes
from fleet_server.logs.service import Logs
from fleet_server.logs.store import LogStore
from fleet_server.logs.stream import Streams
from fleet_server.manifest.routes import router as manifest_routes
from fleet_server.manifest.service import Manifests
from fleet_server.matching.loop import MatchingLoop
from fleet_server.metrics.routes import router as metric_routes
from fleet_server.metrics.service import Metrics
from fleet_server.metrics.store import MetricStore
from fleet_server.prune.routes import router as prune_routes
from fleet_server.prune.service import Prune, Unfinished
from fleet_server.prune.strays import Strays
from fleet_server.services import Services
from fleet_server.settings import Settings
from fleet_server.workers.flush import Flush
from fleet_server.workers.leases import Leases
from fleet_server.workers.queries import all_workers
from fleet_server.workers.roster import Roster
from fleet_server.workers.routes import router as worker_routes
from fleet_server.workers.service import Workers

log = structlog.get_logger()


def create_app(settings: Settings, clock: Clock | None = None, database: Database | None = None) -> FastAPI:
    """The coordinator as an ASGI application; its database must be at the newest revision already."""
    clock = clock or SteadyClock()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        services = await _open(settings, clock, database or Database(settings.url, clock))
        app.state.services = services
        async with asyncio.TaskGroup() as group:
            services.loops = [group.create_task(loop, name=name) for name, loop in _loops(services).items()]
            yield
            for task in services.loops:
                task.cancel()
        await services.database.close()

    app = FastAPIOffline(
        title="fleet",
        version=program_version(),
        description="The coordinator of a fleet: plan it, explain it, train it once.",
        lifespan=lifespan,
        redoc_url=None,
        generate_unique_id_function=_operation_id,
    )
    routers = (  # asked one after the other: what workers say most often comes first
        worker_routes,
        artifact_routes,
        job_routes,
        blob_routes,
        prune_routes,
        log_routes,
        metric_routes,
        event_routes,
        manifest_routes,
        access_routes,
        health.router,
        exposition_routes,
    )
    for router in routers:
        app.include_router(router)
    app.add_middleware(LocalOnly, public=settings.public_host)
    problems.install(app)
    openapi.install(app)
    return app


def _operation_id(route: APIRoute) -> str:
    return route.name


async def _open(settings: Settings, clock: Clock, database: Database) -> Services:
    """Make every part, take up the state that the database holds, apply the manifest."""
    database.writer.start()
    async with database.read() as connection:
        roster = Roster({worker.worker_id: worker for worker in await connection.run_sync(all_workers)})
        roster.leases = Leases(job for job, _ in await connection.run_sync(open_attempts))
        feed = Feed(await connection.run_sync(last_event))
        if feed.last:
            database.writer.leap()
        kept = await connection.run_sync(checkpoints)
        held = {row.id: row for row in await connection.run_sync(all_held)}
    matching = MatchingLoop(database.writer, clock, roster, timedelta(seconds=settings.stale_after))
    workers = Workers(database, clock, settings, roster, matching)
    content = ContentStore(settings.data, settings.max_artifact_bytes)
    artifacts, blobs = Artifacts(database, clock, content, Index(settings.data)), Blobs(database, content)
    manifests = Manifests(database, roster, matching, blobs, settings.manifest)
    streams = Streams(on_gauges=roster.measure)
    meters = Meters()
    log_store = LogStore(settings.data / "logs", clock, settings.log_reserve_mib * 1024**2)
    metric_store = MetricStore(settings.data / "metrics")
    services = Services(
        settings=settings,
        clock=clock,
        database=database,
        access=Access(database, clock, Bearers(open_tokens(settings.data / "tokens"), held), workers),
        matching=matching,
        workers=workers,
        jobs=Jobs(database, matching, roster, streams.push_stop),
        manifests=manifests,
        artifacts=artifacts,
        blobs=blobs,
        superseded=Superseded(blobs, kept),
        prune=Prune(
            clock,
            (
                blobs,
                artifacts,
                Unfinished(content),
                ExpiredLogs(database, log_store),
                *_strays(settings, database),
            ),
        ),
        logs=Logs(database, clock, log_store, meters.log_bytes.inc),
        metrics=Metrics(database, metric_store),
        streams=streams,
        feed=feed,
        meters=meters,
        live=Live(database, clock, roster, matching, log_store, metric_store),
    )
    for told in (roster.leases, feed, services.logs, services.superseded, meters):
        database.writer.on_commit(told.on_commit)
    database.writer.on_batch = meters.batch.observe
    await blobs.take_stock()
    await manifests.load_current()
    if settings.manifest is not None:
        try:
            await manifests.reload(ReloadRequest(), "coordinator")
        except (BlobMissing, StorageFull) as error:  # what was applied before goes on
            log.error("manifest_not_applied", why=error.detail, next="fleet reload")
    return services


def _strays(settings: Settings, database: Database) -> Iterator[Strays]:
    for kind, folder in (("log", "logs"), ("metrics", "metrics")):
        yield Strays(kind, settings.data / folder, database)


def _loops(services: Services) -> dict[str, Coroutine[None, None, None]]:
    """What runs beside the requests."""
    database, settings, roster = services.database, services.settings, services.workers.roster
    return {
        "matching": services.matching.run(),
        "sweep": Sweep(database, services.clock, settings, roster, services.workers.policy).run(),
        "flush": Flush(database, settings, roster).run(),
        "closing": Closing(database, services.clock, settings, services.logs).run(),
        "superseded": services.superseded.run(),
        "hook": FailureHook(database, services.feed, settings.on_failure, settings.data / "on_failure").run(),
    }
