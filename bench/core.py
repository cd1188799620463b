"""The core's figures: claims and what they cost in a long queue, plan and reload, explain, heartbeats, locks.

python3 run.py bench core                      all of them, about ten minutes
python3 run.py bench core --only NAME,NAME     those whose names begin so, as claims_sqlite or explain_ms
python3 run.py bench core --quick              all of them, small: whether it works, not how fast it is
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from statistics import median

from sqlalchemy import create_engine, text

from bench.figure import Figure
from bench.rig import bare
from bench.rig.caller import OFFER, Caller, Worker, timed
from bench.rig.place import Parts, Place, chosen, load
from bench.rig.programs import HEAD, Fleet, cpu_seconds, grid, running
from fleet_protocol.capability import Capability, Gpu
from fleet_protocol.manifest import parse

CLAIMS = {1: 300, 32: 2000, 200: 3000}
"""Claims of a run, by how many workers claim at once."""
ENGINES = ("sqlite", "postgres")


def measure(*options: str) -> Iterator[Figure]:
    return chosen(PARTS, *options)


def claims(engine: str, workers: int, place: Place, name: str) -> Iterator[Figure]:
    """Medians of three runs; the bare engine takes as many claims to a commit as the coordinator did."""
    number = 100 if place.quick else CLAIMS[workers]
    runs = [_claims(place, engine, workers, number) for _ in range(1 if place.quick else 3)]
    told = {key: median(run[key] for run in runs) for key in runs[0]}
    limit = Figure(f"the engine alone, {told['batch']:.0f} claims a commit", told["bare"], "1/s")
    yield Figure(name, told["per_second"], "1/s", limit)
    yield Figure(f"{name}_median_ms", told["median_ms"], "ms")
    yield Figure(f"{name}_p99_ms", told["p99_ms"], "ms")
    yield Figure(f"{name}_cpu_ms", told["cpu_ms"], "ms of the coordinator's CPU time a claim")


def _claims(place: Place, engine: str, workers: int, number: int) -> dict[str, float]:
    manifest = grid(number)
    with place.database(engine) as url, running(place.new(), manifest=manifest, database=url) as fleet:
        before = cpu_seconds(fleet.server.pid)
        told = load("load", fleet.url, fleet.token("agent"), workers, number)
        told["cpu_ms"] = 1000 * (cpu_seconds(fleet.server.pid) - before) / number
        batch = number / _commits(bare.settings(fleet.folder / "server", None, url).url)
        file = fleet.folder / "manifest.toml"
    with place.database(engine) as one, place.database(engine) as other:
        recorded, played = (bare.settings(place.new(), file, url) for url in (one, other))
        limit = bare.claims_per_second(recorded, played, number, max(1, round(batch)))
    return {**told, "batch": batch, "bare": limit}


def _commits(url: str) -> int:
    """In how many transactions the claims were made: each has a time of its own."""
    engine = create_engine(url)
    with engine.connect() as connection:
        found = connection.scalar(text("SELECT count(DISTINCT created_at) FROM attempts"))
    engine.dispose()
    return int(found or 1)


def growth(engine: str, place: Place, name: str) -> Iterator[Figure]:
    """One worker claims and gives back, now here and now there: the same work in a short and in a long queue."""
    short, long = (100, 200) if place.quick else (100, 100_000)
    took: dict[int, list[float]] = {short: [], long: []}
    with (
        place.fleet(grid(short), engine) as one,
        place.fleet(grid(long), engine) as other,
        ExitStack() as stack,
    ):
        pairs = {short: one, long: other}
        callers = {jobs: stack.enter_context(Caller(f.url, f.token("agent"))) for jobs, f in pairs.items()}
        workers = {jobs: Worker(caller, "growth") for jobs, caller in callers.items()}
        for _ in range(5 if place.quick else 500):
            for jobs, worker in workers.items():
                seconds, claimed = timed(worker.claim)
                took[jobs].append(seconds)
                worker.tell(claimed, "release", reason="drained")
    at_short, at_long = (1000 * median(took[jobs]) for jobs in (short, long))
    yield Figure(f"{name}_claim_ms", at_long, "ms", Figure(f"with {short} pending", at_short, "ms"))
    yield Figure(name, at_long / at_short, f"times, {long} pending over {short}")


def planning(place: Place, name: str) -> Iterator[Figure]:
    """The whole round: the manifest goes over HTTP, the plan of every job comes back and is read."""
    jobs, repeats = (200, 2) if place.quick else (10_000, 5)
    manifest = grid(jobs)
    first = f'{HEAD}[[jobs]]\nname = "first"\nmodel = "gbt"\n'
    with place.fleet(first) as fleet, Caller(fleet.url, fleet.token("operator")) as operator:
        _workers(fleet, 2)
        verb = "plan" if name.startswith("plan") else "reload"
        if verb == "reload":
            operator.post("/v1/manifest/reload", toml=manifest, file="grid.toml")
        ask = partial(operator.post, f"/v1/manifest/{verb}", toml=manifest, file="grid.toml")
        rounds = [timed(ask) for _ in range(repeats)]
    assert all(len(plan["entries"]) >= jobs and plan["changed"] is (verb == "plan") for _, plan in rounds)
    limit = median(timed(parse, manifest)[0] for _ in range(3))
    took = median(seconds for seconds, _ in rounds)
    yield Figure(name, took, "s", Figure("reading and checking the manifest alone", limit, "s"))


def locks(engine: str, place: Place, name: str) -> Iterator[Figure]:
    jobs, seconds = (200, 1) if place.quick else (10_000, 60)
    with place.fleet(grid(jobs), engine) as fleet:
        told = load("pattern", fleet.url, str(fleet.tokens), seconds)
    if told["first"]:
        print(told["first"], file=sys.stderr)
    yield Figure(name, told["wrong"], f"of {told['calls']} calls, {told['events']} events seen")


def explaining(place: Place, name: str) -> Iterator[Figure]:
    """A job that no worker can take, so that every worker gives its reasons and every change is tried on each."""
    wants = '[[jobs]]\nname = "large"\nmodel = "cnn"\nrequire_cuda = true\nmin_vram_gib = 24\n'
    jobs, workers, repeats = (200, 10, 5) if place.quick else (10_000, 100, 100)
    manifest = grid(jobs) + wants
    with place.fleet(manifest) as fleet, Caller(fleet.url, fleet.token("viewer")) as viewer:
        _workers(fleet, workers)
        job = viewer.get("/v1/jobs?q=large")["jobs"][0]["job_id"]
        told = viewer.get(f"/v1/job/{job}/explain")
        assert len(told["workers"]) == workers
        assert told["relaxation"], told
        limit = median(timed(viewer.get, "/v1/ready")[0] for _ in range(repeats))
        took = median(timed(viewer.get, f"/v1/job/{job}/explain")[0] for _ in range(repeats))
    yield Figure(name, 1000 * took, "ms", Figure("the shortest answer there is", 1000 * limit, "ms"))


def _workers(fleet: Fleet, number: int) -> None:
    """Half of them without a GPU, half with one that is too small for much."""
    small = Gpu(kind="cuda", name="small", vram_gib=8)
    with Caller(fleet.url, fleet.token("agent")) as caller:
        for each in range(number):
            gpus = (small,) if each % 2 else ()
            offer: Capability = OFFER.model_copy(update={"gpus": gpus, "models": ("gbt", "cnn", "mlp")})
            Worker(caller, f"host-{each}", offer)


def beating(place: Place, name: str) -> Iterator[Figure]:
    jobs, workers, seconds = (100, 16, 0.5) if place.quick else (2000, 1000, 30)
    with place.fleet(grid(jobs)) as fleet:
        told = load("beats", fleet.url, fleet.token("agent"), workers, seconds)
    yield Figure(name, told["p99_ms"], "ms")
    yield Figure("heartbeat_median_ms", told["median_ms"], "ms")
    yield Figure("heartbeat_beside_claims", told["claims_per_second"], "1/s")


PARTS: Parts = {
    **{
        f"claims_{engine}_{workers}": partial(claims, engine, workers)
        for engine in ENGINES
        for workers in CLAIMS
    },
    **{f"claim_growth_{engine}": partial(growth, engine) for engine in ENGINES},
    "plan_10000_s": planning,
    "reload_unchanged_10000_s": planning,
    "lock_errors": partial(locks, "sqlite"),
    "lock_errors_postgres": partial(locks, "postgres"),
    "explain_ms": explaining,
    "heartbeat_p99_ms": beating,
}
