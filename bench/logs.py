"""The figures of what moves: log bytes to disk and to viewers, uploads, an agent at rest, and how fast jobs go through.

python3 run.py bench logs                      all of them, about ten minutes
python3 run.py bench logs --only NAME,NAME     those whose names begin so, as log_ingest or noop
python3 run.py bench logs --quick              all of them, small: whether it works, not how fast it is
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from statistics import median
from typing import IO
from uuid import uuid4

from bench.figure import Figure
from bench.rig import dispatch
from bench.rig.caller import Caller, Worker, timed
from bench.rig.demo import ROOT
from bench.rig.ingest import LINE_BYTES, lines
from bench.rig.place import Parts, Place, chosen, command, load
from bench.rig.printing import LINES, ROUND_SECONDS
from bench.rig.programs import HEAD, Fleet, cpu_seconds, grid, rss_mib, tables, wait_for

MB = 1_000_000
PIECE = lines(2**20)


def measure(*options: str) -> Iterator[Figure]:
    return chosen(PARTS, *options)


def ingest(attempts: int, place: Place, name: str) -> Iterator[Figure]:
    seconds = 0.2 if place.quick else 10
    with place.fleet(grid(100)) as fleet, Caller(fleet.url, fleet.token("agent")) as caller:
        workers = [Worker(caller, f"host-{number}") for number in range(attempts)]
        held = {str(worker.claim()["attempt"]): str(worker.id) for worker in workers}
        ours = _ingested(f"{fleet.url}/v1/worker/stream", fleet.token("agent"), seconds, held)
    with _plain(place.new()) as url:
        theirs = _ingested(url, "none", seconds, {str(uuid4()): str(uuid4()) for _ in range(attempts)})
    limit = Figure("a bare websocket that writes and syncs", theirs / MB, "MB/s")
    yield Figure(name, ours / MB, "MB/s", limit)
    yield Figure(f"{name}_lines", ours / LINE_BYTES, f"lines/s of {LINE_BYTES} bytes")


def _ingested(url: str, token: str, seconds: float, held: dict[str, str]) -> float:
    """Bytes a second."""
    address = url.replace("http", "ws", 1)
    told = load("ingest", address, token, seconds, said=json.dumps(held))
    return float(told["bytes"] / told["seconds"])


@contextmanager
def _plain(folder: Path) -> Iterator[str]:
    """The URL of a server that does the bare task."""
    folder.mkdir()
    with subprocess.Popen(command("plain", folder), cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        try:
            yield f"http://127.0.0.1:{_line(server.stdout)}"
        finally:
            server.terminate()


def _line(output: IO[str] | None) -> str:
    assert output is not None
    return output.readline().strip()


def viewing(place: Place, name: str) -> Iterator[Figure]:
    """From a trainer's write into its own output to a viewer's socket: spool, agent, coordinator's disk, viewer."""
    attempts, seconds = (4, 1) if place.quick else (100, 30)
    pipes = place.new()
    pipes.mkdir()
    for number in range(attempts):
        os.mkfifo(pipes / str(number))
    with place.fleet(tables(attempts)) as fleet:
        many = ("--max-jobs", str(attempts), "--cores", str(attempts), "--ram-gib", str(attempts))
        fleet.agent("bench", str(_echoing(pipes)), *many)
        with Caller(fleet.url, fleet.token("viewer")) as viewer:
            wait_for(lambda: len(_jobs(viewer, "running")) == attempts, "the trainers to start")
            jobs = _jobs(viewer, "running")
        with _watching(fleet, jobs) as watching:
            subprocess.run(command("printing", pipes, attempts, seconds), cwd=ROOT, check=True)
            told = json.loads(_line(watching.stdout))
    printed = attempts * LINES * round(seconds / ROUND_SECONDS)
    assert told["lines"] == printed, f"{told['lines']} of {printed} lines came"
    yield Figure(name, told["median_ms"], f"ms, {attempts} attempts at 10 kB/s")
    yield Figure("line_to_viewer_p99_ms", told["p99_ms"], "ms")
    yield Figure("line_to_viewer_worst_ms", told["worst_ms"], "ms")


def _echoing(pipes: Path) -> Path:
    """A `python` whose trainer prints what it reads from the pipe of its job's number."""
    script = pipes / "python"
    facts = shlex.quote(json.dumps(dispatch.FACTS))
    script.write_text(
        f'#!/bin/sh\nif [ "$1" = -c ]; then echo {facts}; exit; fi\n'
        f"exec cat {shlex.quote(str(pipes))}/$FLEET_SEED\n"
    )
    script.chmod(0o755)
    return script


def _jobs(viewer: Caller, status: str) -> list[str]:
    return [job["job_id"] for job in viewer.get(f"/v1/jobs?status={status}&limit=1000")["jobs"]]


@contextmanager
def _watching(fleet: Fleet, jobs: list[str]) -> Iterator[subprocess.Popen[str]]:
    address = fleet.url.replace("http", "ws", 1)
    told = command("watching", address, fleet.token("viewer"), *jobs)
    with subprocess.Popen(told, cwd=ROOT, stdout=subprocess.PIPE, text=True) as watching:
        assert _line(watching.stdout) == "ready"
        yield watching


def stalling(place: Place, name: str) -> Iterator[Figure]:
    """What the coordinator's memory grows by, for each viewer that reads no more while the others go on."""
    viewers, stalled, pieces = (20, 2, 2) if place.quick else (200, 20, 8)
    with place.fleet(grid(100)) as fleet, Caller(fleet.url, fleet.token("agent")) as caller:
        held = Worker(caller, "host").claim()
        address, token = fleet.url.replace("http", "ws", 1), fleet.token("viewer")
        told = command("viewers", address, token, held["job"]["job_id"], viewers, stalled)
        with subprocess.Popen(told, cwd=ROOT, stdin=-1, stdout=-1, text=True, bufsize=1) as crowd:
            assert _line(crowd.stdout) == "ready"
            grown = []
            for until in (pieces, 2 * pieces):
                _append(caller, held["attempt"], until - pieces, until)
                assert crowd.stdin is not None
                crowd.stdin.write(f"{until * len(PIECE)}\n")
                assert _line(crowd.stdout) == "done"
                grown.append(rss_mib(fleet.server.pid))
            crowd.terminate()
    kib = max(0.0, 1024 * (grown[1] - grown[0]) / stalled)
    yield Figure(name, kib, f"KiB a stalled viewer, {stalled} of {viewers}")
    yield Figure("viewers_server_rss_mib", grown[1], f"MiB with {viewers} viewers")


def _append(caller: Caller, attempt: str, first: int, last: int) -> None:
    """The pieces from `first` up to but without `last`."""
    for number in range(first, last):
        offset = str(number * len(PIECE))
        caller.done(
            "PATCH", f"/v1/attempt/{attempt}/log", PIECE, Upload_Offset=offset, Content_Type="text/plain"
        )


def tailing(place: Place, name: str) -> Iterator[Figure]:
    """The last hundred lines of a long log, while it is open and once it is closed and compressed."""
    pieces, repeats = (2, 5) if place.quick else (1025, 50)
    often = {"FLEET_SERVER_LOG_SWEEP": "0.5"}  # else it takes half a minute until the log is closed
    with place.fleet(grid(100), **often) as fleet, Caller(fleet.url, fleet.token("agent")) as caller:
        worker = Worker(caller, "host")
        held = worker.claim()
        job = held["job"]["job_id"]
        _append(caller, held["attempt"], 0, pieces)
        with Caller(fleet.url, fleet.token("viewer")) as viewer:
            limit = median(timed(viewer.get, "/v1/ready")[0] for _ in range(2 * repeats))
            least = Figure("the shortest answer there is", 1000 * limit, "ms")
            yield Figure(name, _tail_ms(viewer, job, repeats), "ms, of 100 lines", least)
            worker.tell(
                held, "fail", kind="refused", reason="as told", exit_code=2, log_bytes=pieces * len(PIECE)
            )
            wait_for(partial(_is_closed, viewer, job), "the log to be closed")
            yield Figure("tail_1gib_closed_ms", _tail_ms(viewer, job, repeats), "ms, of 100 lines", least)


def _tail_ms(viewer: Caller, job: str, repeats: int) -> float:
    path = f"/v1/job/{job}/log?tail=100"
    assert viewer.done("GET", path) == PIECE[-100 * LINE_BYTES :]
    return 1000 * median(timed(viewer.done, "GET", path)[0] for _ in range(repeats))


def _is_closed(viewer: Caller, job: str) -> bool:
    return viewer.get(f"/v1/job/{job}")["history"][-1]["log_state"] is not None


def uploading(place: Place, name: str) -> Iterator[Figure]:
    """One artifact, received, hashed, synced and visible; medians of three."""
    size = 2**22 if place.quick else 2**29
    runs = 1 if place.quick else 3
    with place.fleet(grid(100)) as fleet, Caller(fleet.url, fleet.token("agent")) as caller:
        attempt = Worker(caller, "host").claim()["attempt"]
        path = f"/v1/model/{{}}?attempt={attempt}"
        ours = median(_uploaded(caller, path, size) for _ in range(runs))
    with _plain(place.new()) as url, Caller(url, "none") as caller:
        theirs = median(_uploaded(caller, "/{}", size) for _ in range(runs))
    yield Figure(name, ours / MB, "MB/s", Figure("a bare upload with SHA-256, synced", theirs / MB, "MB/s"))


def _uploaded(caller: Caller, path: str, size: int) -> float:
    """Bytes a second."""
    data = os.urandom(2**20) * (size // 2**20)
    digest = hashlib.sha256(data).hexdigest()
    seconds, _ = timed(
        partial(caller.done, "PUT", path.format(digest), data, Content_Type="application/zstd")
    )
    return size / seconds


def resting(place: Place, name: str) -> Iterator[Figure]:
    """An agent that waits for work."""
    settling, seconds = (0.2, 0.5) if place.quick else (5.0, 120.0)
    with place.fleet(HEAD + '[[jobs]]\nname = "far"\nmodel = "gbt"\nmin_cores = 999\n') as fleet:
        agent = fleet.agent("bench", str(dispatch.interpreter(place.new_folder())))
        time.sleep(settling)
        before = cpu_seconds(agent.pid)
        time.sleep(seconds)
        busy = cpu_seconds(agent.pid) - before
        yield Figure(name, 100 * busy / seconds, f"% of a core, over {seconds:g} s")
        yield Figure("agent_rss_mib", rss_mib(agent.pid), "MiB")


def dispatching(place: Place, _: str) -> Iterator[Figure]:
    folder = place.new_folder()
    script = dispatch.interpreter(folder)
    with place.fleet(tables(1)) as fleet:
        fleet.agent("bench", str(script))
        yield from dispatch.figures(fleet, folder, script, 3 if place.quick else 50)


def passing(place: Place, name: str) -> Iterator[Figure]:
    """Jobs that do nothing, from the first claim to the last completion, each with all that a real one leaves."""
    count = 6 if place.quick else 1000
    numbers = f"matrix = {{ n = {list(range(count))} }}"
    manifest = (
        f'{HEAD}[models.noop]\ncommand = ["true"]\n[[jobs]]\nname = "noop"\nmodel = "noop"\n{numbers}\n'
    )
    with place.fleet(manifest) as fleet, Caller(fleet.url, fleet.token("viewer")) as viewer:
        fleet.agent("bench", sys.executable, "--max-jobs", "2", "--cores", "2")
        wait_for(partial(_all_over, viewer), "the jobs to end", 10 + count / 5, 0.25)
        began, ended = _moments(viewer, "claimed"), _moments(viewer, "completed")
    assert len(ended) == count, f"{len(ended)} of {count} completed"
    took = (max(ended) - min(began)).total_seconds()
    limit = Figure("starting `true`, two at a time", load("spawning", count, 2)["per_second"], "1/s")
    yield Figure(name, count / took, "1/s", limit)


def _all_over(viewer: Caller) -> bool:
    waiting = "status=pending&status=claimed&status=running"
    return not viewer.get(f"/v1/jobs?{waiting}&limit=1")["jobs"]


def _moments(viewer: Caller, kind: str) -> list[datetime]:
    """When events of a kind happened."""
    found: list[datetime] = []
    cursor = 0
    while page := viewer.get(f"/v1/events?after={cursor}&limit=1000"):
        if not page["events"]:
            break
        found += [datetime.fromisoformat(event["at"]) for event in page["events"] if event["kind"] == kind]
        cursor = page["next"]
    return found


PARTS: Parts = {
    "log_ingest_1": partial(ingest, 1),
    "log_ingest_100": partial(ingest, 100),
    "line_to_viewer_ms": viewing,
    "stalled_viewer_kib": stalling,
    "tail_1gib_ms": tailing,
    "upload": uploading,
    "agent_idle_cpu_pct": resting,
    "dispatch_ms": dispatching,
    "noop_jobs_per_s": passing,
}
