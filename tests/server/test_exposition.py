"""What Prometheus reads: the numbers are the ledger's, and a real Prometheus takes them."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import socket
import subprocess
import threading
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from typer.core import TyperGroup
from typer.main import get_command

from fleet_client.cli.commands import app
from fleet_protocol.workers import Gauges, GpuGauge
from fleet_server import health
from fleet_server.exposition.meters import Meters
from tests.architecture.source import ROOT
from tests.server.coordinator import Coordinator, FakeClock, job, jobs, manifest

RULES = ROOT / "etc" / "prometheus" / "fleet.rules.yml"
SCRAPE = ROOT / "etc" / "prometheus" / "prometheus.yml.example"
PANELS = ROOT / "etc" / "grafana" / "fleet.json"
Samples = dict[tuple[str, tuple[str, ...]], float]


async def scraped(fleet: Coordinator) -> Samples:
    answer = await fleet.http("viewer").get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    families = text_string_to_metric_families(answer.text)
    return {(one.name, tuple(one.labels.values())): one.value for each in families for one in each.samples}


async def test_the_queue_by_status_and_by_what_it_waits_for(fleet: Coordinator, clock: FakeClock):
    large = job("large", seed=9, priority=-1, min_ram_gib=4000)
    await fleet.load(manifest(*jobs(3), large))
    before = await scraped(fleet)
    assert before["fleet_jobs_pending", ("unfit",)] == 4, "there is no worker yet"

    worker = await fleet.worker("box", max_jobs=1)
    clock.advance(3)
    held = await worker.claim()
    assert held is not None
    clock.advance(2)
    await worker.say("start", held)
    seen = await scraped(fleet)

    assert {name: seen["fleet_jobs", (name,)] for name in ("pending", "running", "failed")} == {
        "pending": 3,
        "running": 1,
        "failed": 0,
    }
    waits = {name: seen["fleet_jobs_pending", (name,)] for name in ("retry", "unfit", "busy", "turn")}
    assert waits == {"retry": 0, "unfit": 1, "busy": 2, "turn": 0}
    assert (seen["fleet_leases", ()], seen["fleet_workers", ("live",)]) == (1, 1)
    assert (seen["fleet_job_queue_seconds_sum", ()], seen["fleet_job_queue_seconds_count", ()]) == (3, 1)
    assert (seen["fleet_attempt_start_seconds_sum", ()], seen["fleet_attempt_start_seconds_count", ()]) == (
        2,
        1,
    )

    await worker.error(held)
    again = await scraped(fleet)
    assert [again["fleet_jobs_pending", (name,)] for name in ("retry", "busy", "turn")] == [1, 0, 2]
    assert again["fleet_leases", ()] == 0
    assert again["fleet_events_total", ("started",)] == 1
    assert again["fleet_writer_batch_operations_count", ()] > seen["fleet_writer_batch_operations_count", ()]


async def test_workers_and_logs(fleet: Coordinator, clock: FakeClock):
    await fleet.load(manifest(job("noisy")))
    worker = await fleet.worker("box")
    held = await worker.take()
    await worker.log(held, 0, b"x" * 1000)
    gpu = GpuGauge(busy_pct=80, vram_used_gib=2)
    fleet.services.workers.roster.measure(worker.id, Gauges(cpu_pct=50, ram_used_gib=1, gpus=(gpu,)))
    clock.advance(7)
    seen = await scraped(fleet)
    assert seen["fleet_log_received_bytes_total", ()] == 1000
    assert seen["fleet_worker_cpu_ratio", ("box",)] == 0.5
    assert seen["fleet_worker_gpu_ratio", ("0", "box")] == 0.8
    assert seen["fleet_worker_vram_used_bytes", ("0", "box")] == 2 * 1024**3
    assert seen["fleet_worker_heard_seconds", ("box",)] == 7
    fleet.services.workers.roster.put(
        fleet.services.workers.roster.gone(fleet.services.workers.roster.workers[worker.id])
    )
    gone = await scraped(fleet)
    assert ("fleet_worker_cpu_ratio", ("box",)) not in gone, "what a lost worker told is no longer so"
    assert gone["fleet_workers", ("lost",)] == 1


async def test_how_far_behind_the_slowest_reader_is(fleet: Coordinator):
    assert fleet.services.feed.lag == 0
    fleet.services.feed.cursors |= {"slow": fleet.services.feed.last - 3, "fast": fleet.services.feed.last}
    assert (await scraped(fleet))["fleet_event_lag", ()] == 3


async def test_what_raised_is_no_commit(fleet: Coordinator):
    name = ("fleet_writer_batch_operations_count", ())
    before = (await scraped(fleet))[name]
    with pytest.raises(ZeroDivisionError):
        await fleet.services.database.writer.run(lambda tx: 1 / 0)
    assert (await scraped(fleet))[name] == before


async def test_a_writer_that_stands_still_is_named(fleet: Coordinator, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(health, "PATIENCE_SECONDS", 0.2)
    going_on = threading.Event()
    stuck = asyncio.create_task(fleet.services.database.writer.run(lambda tx: going_on.wait()))
    try:
        answer = await fleet.http("viewer").get("/v1/ready")
    finally:
        going_on.set()
        await stuck
    assert answer.status_code == 503
    assert answer.json()["parts"]["database"] == {"ok": False, "detail": "nothing was written for 0.2 s"}


def names_in(text: str) -> set[str]:
    return set(re.findall(r"\bfleet_[a-z_]+\b", text))


def test_dashboard_and_alerts_name_what_there_is():
    meters = Meters()
    meters.on_commit([])
    told = {name for family in meters.registry.collect() for name in (family.name, f"{family.name}_total")}
    told |= {
        f"{family.name}_{part}" for family in meters.registry.collect() for part in ("bucket", "sum", "count")
    }
    panels = json.loads(PANELS.read_text("utf-8"))["panels"]
    drawn = names_in(" ".join(target["expr"] for panel in panels for target in panel["targets"]))
    assert len(drawn) > 10
    assert not (drawn | names_in(RULES.read_text("utf-8"))) - told
    commands = get_command(app)
    assert isinstance(commands, TyperGroup)
    orders = set(re.findall(r"\bfleet ([a-z]+)", RULES.read_text("utf-8")))
    assert len(orders) > 2
    assert orders <= commands.commands.keys()
    kinds = re.findall(r'kind="(\w+)"', RULES.read_text("utf-8"))
    assert set(kinds) == {"failed", "worker_lost"}


@pytest.mark.skipif(not shutil.which("promtool"), reason="needs promtool, of Debian's package prometheus")
def test_promtool_finds_no_fault(tmp_path: Path):
    for file in (RULES, SCRAPE):
        shutil.copy(file, tmp_path / file.name.removesuffix(".example"))
    (tmp_path / "viewer.token").write_text("x")
    subprocess.run(["promtool", "check", "rules", "fleet.rules.yml"], cwd=tmp_path, check=True)
    subprocess.run(["promtool", "check", "config", "prometheus.yml"], cwd=tmp_path, check=True)


@pytest.mark.skipif(
    not shutil.which("prometheus"), reason="needs prometheus, of Debian's package of that name"
)
async def test_a_real_prometheus_scrapes_it(data: Path, fleet: Coordinator, tmp_path: Path):
    await fleet.load(manifest(*jobs(2)))
    (tmp_path / "viewer.token").write_text((data / "tokens" / "viewer").read_text())
    shutil.copy(RULES, tmp_path)
    text = SCRAPE.read_text("utf-8").replace("127.0.0.1:8490", fleet.url.removeprefix("http://"))
    (tmp_path / "prometheus.yml").write_text(text.replace("15s", "1s"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = "{}:{}".format(*free.getsockname())
    program = await asyncio.create_subprocess_exec(
        "prometheus",
        f"--config.file={tmp_path / 'prometheus.yml'}",
        f"--storage.tsdb.path={tmp_path / 'kept'}",
        f"--web.listen-address={address}",
        stderr=subprocess.DEVNULL,
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://{address}") as http, asyncio.timeout(60):
            while (found := await asked(http, 'fleet_jobs{status="pending"}')) != ["2"]:
                assert found == []
                await asyncio.sleep(0.2)
            assert await asked(http, 'up{job="fleet"}') == ["1"]
    finally:
        program.terminate()
        await program.wait()


async def asked(http: httpx.AsyncClient, query: str) -> list[str]:
    """The values that Prometheus has for it now; none while it starts or has none."""
    try:
        answer = await http.get("/api/v1/query", params={"query": query})
    except httpx.TransportError:
        return []
    return [one["value"][1] for one in answer.json()["data"]["result"]] if answer.is_success else []
