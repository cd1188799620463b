"""The metrics by name. Counters and histograms begin at zero with the coordinator, as Prometheus expects of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from fleet_protocol.ids import AttemptId
from fleet_server.database import EventRow

SECONDS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600, 14400, 86400)
OPERATIONS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
BYTES_PER_GIB = 1024**3


class Meters:
    """All of them. Labels come from sets that the fleet bounds: statuses, kinds of events, workers that are live."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._claimed: dict[AttemptId, datetime] = {}
        self.events = self._counter("events", "Events written to the history, by kind.", "kind")
        self.log_bytes = self._counter("log_received_bytes", "Bytes of logs that agents brought.")
        self.queued = self._seconds("job_queue_seconds", "From a job's entering the queue to its claim.")
        self.dispatched = self._seconds("attempt_start_seconds", "From a claim to the start of its program.")
        self.batch = Histogram(
            "fleet_writer_batch_operations",
            "Operations that one commit made durable.",
            buckets=OPERATIONS,
            registry=self.registry,
        )
        self.jobs = self._gauge("jobs", "Jobs by status.", "status")
        self.pending = self._gauge(
            "jobs_pending",
            "Pending jobs by what they wait for: retry (a pause after a failure), unfit (no worker can ever take "
            "them), busy (those that can are busy), turn (one could now).",
            "reason",
        )
        self.workers = self._gauge("workers", "Workers: live, draining (live, takes no more), lost.", "state")
        self.leases = self._gauge("leases", "Attempts that hold a lease.")
        self.last_event = self._gauge("last_event", "The id of the newest event.")
        self.lag = self._gauge("event_lag", "Events that the slowest reader of the history has yet to read.")
        self.info = self._gauge(
            "info", "Always 1; the coordinator's version and its fleet.", "version", "fleet"
        )
        self.cpu = self._gauge("worker_cpu_ratio", "Share of all cores in use.", "worker")
        self.ram = self._gauge("worker_ram_used_bytes", "Memory in use.", "worker")
        self.disk = self._gauge("worker_disk_free_bytes", "Room where the agent keeps its state.", "worker")
        self.gpu = self._gauge("worker_gpu_ratio", "Share of time that a GPU computes.", "worker", "gpu")
        self.vram = self._gauge("worker_vram_used_bytes", "A GPU's memory in use.", "worker", "gpu")
        self.heard = self._gauge("worker_heard_seconds", "Since the worker was last heard.", "worker")

    def _counter(self, name: str, says: str, *labels: str) -> Counter:
        return Counter(f"fleet_{name}", says, labels, registry=self.registry)

    def _seconds(self, name: str, says: str) -> Histogram:
        return Histogram(f"fleet_{name}", says, buckets=SECONDS, registry=self.registry)

    def _gauge(self, name: str, says: str, *labels: str) -> Gauge:
        return Gauge(f"fleet_{name}", says, labels, registry=self.registry)

    def on_commit(self, events: Sequence[EventRow]) -> None:
        for event in events:
            self.events.labels(event.kind).inc()
            job = event.job
            if job is None or job.attempt is None:
                continue
            if event.kind == "claimed":
                self._claimed[job.attempt] = event.at
                self.queued.observe((event.at - job.queued_at).total_seconds())
            elif (claimed := self._claimed.pop(job.attempt, None)) and event.kind == "started":
                self.dispatched.observe((event.at - claimed).total_seconds())

    def page(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self.registry)
