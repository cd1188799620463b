"""Sets the gauges to what is so now: the queue as the ledger has it, the rest from memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from prometheus_client import Gauge

from fleet_protocol.states import JobStatus
from fleet_protocol.version import program_version
from fleet_server.exposition.meters import BYTES_PER_GIB
from fleet_server.exposition.queries import pending_by_kind
from fleet_server.jobs.queries import count_by_status
from fleet_server.matching.fits import Demand, Offer, can_ever, fits
from fleet_server.services import Services


async def look(use: Services) -> None:
    """For one scrape."""
    await _count(use)
    _look(use)


async def _count(use: Services) -> None:
    """The queue, as the ledger has it."""
    now, meters = use.clock.now(), use.meters
    async with use.database.read() as connection:
        statuses = await count_by_status(connection)
        kinds = await connection.run_sync(pending_by_kind, now)
        demands = await connection.run_sync(use.matching.demands)
        offers = await connection.run_sync(use.matching.offers)
    waiting = Counter({"retry": 0, "unfit": 0, "busy": 0, "turn": 0})
    for digest, (count, paused) in kinds.items():
        waiting["retry"] += paused
        waiting[_waits_for(demands[digest], offers)] += count - paused
    for status in JobStatus:
        meters.jobs.labels(status.value).set(statuses.get(status, 0))
    for reason, many in waiting.items():
        meters.pending.labels(reason).set(many)


def _waits_for(demand: Demand, offers: Sequence[Offer]) -> str:
    able = [offer for offer in offers if not can_ever(demand, offer)]
    if not able:
        return "unfit"
    return "turn" if any(not fits(demand, offer) for offer in able) else "busy"


def _look(use: Services) -> None:
    """What is in memory. Nothing waits in here: two scrapes at once see whole states."""
    meters, roster, now = use.meters, use.workers.roster, use.clock.now()
    meters.info.labels(program_version(), use.manifests.fleet).set(1)
    meters.leases.set(len(roster.leases.held))
    meters.last_event.set(use.feed.last)
    meters.lag.set(use.feed.lag)
    states = Counter({"live": 0, "draining": 0, "lost": 0})
    for each in (meters.cpu, meters.ram, meters.disk, meters.gpu, meters.vram, meters.heard):
        each.clear()
    for worker in roster.workers.values():
        states["lost" if not worker.live else "draining" if worker.draining else "live"] += 1
        if not worker.live:
            continue
        meters.heard.labels(worker.name).set((now - roster.last_heard(worker)).total_seconds())
        gauges = roster.gauges.get(worker.worker_id)
        if gauges is None:
            continue
        _set(meters.cpu, gauges.cpu_pct, 0.01, worker.name)
        _set(meters.ram, gauges.ram_used_gib, BYTES_PER_GIB, worker.name)
        _set(meters.disk, gauges.disk_free_gib, BYTES_PER_GIB, worker.name)
        for number, gpu in enumerate(gauges.gpus):
            _set(meters.gpu, gpu.busy_pct, 0.01, worker.name, str(number))
            _set(meters.vram, gpu.vram_used_gib, BYTES_PER_GIB, worker.name, str(number))
    for state, many in states.items():
        meters.workers.labels(state).set(many)


def _set(meter: Gauge, value: float | None, unit: float, *labels: str) -> None:
    if value is not None:
        meter.labels(*labels).set(value * unit)
