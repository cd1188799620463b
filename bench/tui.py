"""The dashboard's figures: the program in a terminal of 120x36, against a coordinator that only talks.

python3 run.py bench tui                      all of them, about five minutes
python3 run.py bench tui --only NAME,NAME     those whose names begin so, as events_500 or rss
python3 run.py bench tui --quick              all of them, small: whether it works, not how fast it is

Each figure stands beside what it is meant to stay below. Processor time and bytes say the same on a busy machine;
milliseconds do not.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from statistics import median

from bench.figure import Figure
from bench.rig.caller import Caller, Worker
from bench.rig.ingest import lines
from bench.rig.place import Parts, Place, chosen
from bench.rig.programs import HEAD, cpu_seconds, rss_mib
from bench.rig.screen import KIB, REPEAT_SECONDS, Load, loaded, screen, shown, talker
from bench.rig.talker import LAST

PERCENT = "% of a core"
DRAWN = "KiB/s to the terminal"


def measure(*options: str) -> Iterator[Figure]:
    return chosen(PARTS, *options)


def figure(name: str, value: float, unit: str, most: float) -> Figure:
    return Figure(name, value, unit, Figure("at most", most, unit.partition(",")[0]))


def starting(place: Place, name: str) -> Iterator[Figure]:
    """Until the first screen is drawn, with a coordinator that does not answer; medians."""
    took = []
    with talker(100) as told:
        for _ in range(1 if place.quick else 7):
            with screen(place, told.url) as opened:
                opened.until("Connecting to")
                took.append(1000 * cpu_seconds(opened.pid))
    yield figure(name, median(took), "ms of CPU time", 450)


def filling(place: Place, name: str) -> Iterator[Figure]:
    """From the snapshot to the list on the screen; medians."""
    jobs = 200 if place.quick else 10_000
    took, sent = [], 0
    for _ in range(1 if place.quick else 3):
        with talker(jobs) as told, screen(place, told.url) as opened:
            opened.until("Connecting to")
            opened.quiet()
            before = cpu_seconds(opened.pid)
            sent = told.order("snapshot").answer()
            opened.until("active-01")
            opened.quiet()
            took.append(1000 * (cpu_seconds(opened.pid) - before))
    yield figure(name, median(took), f"ms of CPU time, {jobs} jobs", 300)
    yield figure("jobs_10000_snapshot_kib", sent / KIB, "KiB", 512)


def changing(where: str, most: tuple[float, float, float], place: Place, name: str) -> Iterator[Figure]:
    load = _events(place, where, 500)
    yield figure(f"{name}_cpu_pct", load.cpu_pct, PERCENT, most[0])
    yield figure(f"{name}_key_p95_ms", load.key_ms[1], f"ms, half of them {load.key_ms[0]:.0f}", most[1])
    yield figure(f"{name}_kib_per_s", load.drawn_kib, DRAWN, most[2])
    yield figure(f"{name}_coordinator_kib_per_s", load.told_kib, "KiB/s from the coordinator", 150)


def bursting(place: Place, name: str) -> Iterator[Figure]:
    load = _events(place, "hidden", 5000)
    yield figure(name, load.key_ms[1], f"ms, half of them {load.key_ms[0]:.0f}", 100)
    yield Figure("burst_5000_cpu_pct", load.cpu_pct, PERCENT)
    yield figure("burst_5000_lag_ms", load.lag_ms, "ms until the last event is on the screen", 1000)


def saving(place: Place, name: str) -> Iterator[Figure]:
    yield figure(name, _events(place, "visible", 500, "--slow").drawn_kib, DRAWN, 8)


def _events(place: Place, where: str, rate: int, *options: str) -> Load:
    jobs, seconds = (200, 2) if place.quick else (10_000, 20)
    with shown(place, jobs, *options) as (opened, told):
        order = told.order(f"events {where} {rate} {seconds}")
        return loaded(opened, order, seconds / 2, opened.step, LAST)


def printing(place: Place, name: str) -> Iterator[Figure]:
    seconds = 2 if place.quick else 20
    with shown(place, 100) as (opened, told):
        order = told.order(f"log 20000 {seconds}")
        load = loaded(opened, order, seconds / 2, lambda: opened.answered(b"s", b"sort "))
    yield figure(name, load.cpu_pct, PERCENT, 20)
    yield figure("log_20000_key_p95_ms", load.key_ms[1], f"ms, half of them {load.key_ms[0]:.0f}", 80)
    yield Figure("log_20000_kib_per_s", load.drawn_kib, DRAWN)


def tailing(place: Place, name: str) -> Iterator[Figure]:
    """From the key that selects a job to the last line of its log, of 1 MiB and of 1 GiB; medians."""
    sizes = {"small": 1, "large": 2 if place.quick else 1024}
    jobs = [f'[[jobs]]\nname = "{of}"\nmodel = "gbt"\nseed = {size}\n' for of, size in sizes.items()]
    took: dict[str, list[float]] = {of: [] for of in sizes}
    with place.fleet(HEAD + "".join(jobs)) as fleet, Caller(fleet.url, fleet.token("agent")) as caller:
        for of, size in sizes.items():
            attempt = Worker(caller, of).claim()["attempt"]
            _append(caller, attempt, [*[lines(2**20)] * size, f"the end of {of}\n".encode()])
        with screen(place, fleet.url, token=fleet.token("operator")) as opened:
            opened.until("the end of ")
            for of in ("small", "large") * (1 if place.quick else 9):
                opened.quiet()
                took[of].append(opened.answered(b"j" if of == "small" else b"k", f"the end of {of}".encode()))
    yield Figure(name, median(took["large"]), "ms", Figure("of 1 MiB", median(took["small"]), "ms"))


def _append(caller: Caller, attempt: str, pieces: list[bytes]) -> None:
    path = f"/v1/attempt/{attempt}/log"
    offset = 0
    for piece in pieces:
        caller.done("PATCH", path, piece, Upload_Offset=str(offset), Content_Type="text/plain")
        offset += len(piece)


def resting(place: Place, name: str) -> Iterator[Figure]:
    seconds = 1 if place.quick else 60
    with shown(place, 200 if place.quick else 10_000) as (opened, _):
        before = cpu_seconds(opened.pid)
        drawn = len(opened.read(seconds))
        busy = cpu_seconds(opened.pid) - before
    yield figure(name, 100 * busy / seconds, f"{PERCENT}, over {seconds} s", 0.5)
    yield figure("idle_kib_per_s", drawn / seconds / KIB, DRAWN, 0.1)


def holding(jobs: int, most: float, place: Place, name: str) -> Iterator[Figure]:
    with shown(place, 200 if place.quick else jobs) as (opened, _):
        yield figure(name, rss_mib(opened.pid), "MiB", most)


def choosing(place: Place, name: str) -> Iterator[Figure]:
    """From the key to the list in another order, and to the list with another letter in its filter; medians."""
    jobs = 200 if place.quick else 10_000
    sorted_in, filtered_in = [], []
    with shown(place, jobs) as (opened, _):
        for _ in range(2 if place.quick else 14):
            opened.quiet()
            sorted_in.append(opened.answered(b"s", b"sort "))
        for _ in range(1 if place.quick else 7):
            opened.terminal.type(b"/active-0")
            opened.quiet()
            filtered_in.append(opened.answered(b"7", b"active-07"))
            opened.terminal.type(b"\x1b")
            opened.quiet()
    yield figure(name, median(sorted_in), f"ms, {jobs} jobs", 50)
    yield figure("filter_10000_ms", median(filtered_in), f"ms, {jobs} jobs", 50)


def stepping(place: Place, name: str) -> Iterator[Figure]:
    """While the key is held down, without scrolling, and at rest, when another job's detail and log come on top."""
    steps, drawn, rested, took = 2 if place.quick else 8, [], [], []
    with shown(place, 200 if place.quick else 10_000) as (opened, _):
        for key in (b"j", b"k", b"j"):
            opened.terminal.seen = b""
            for _ in range(steps):
                opened.terminal.type(key)
                opened.read_on(REPEAT_SECONDS)
            drawn.append(len(opened.terminal.seen) / steps)
            opened.quiet()
            for _ in range(steps):
                opened.terminal.seen = b""
                took.append(opened.select(key))
                opened.read_on(0.5)
                rested.append(len(opened.terminal.seen))
    yield figure(name, median(drawn), "bytes", 1000)
    yield Figure("cursor_rest_bytes", median(rested), "bytes, with another job's detail and log")
    yield Figure("cursor_rest_ms", median(took), "ms until another job's detail is drawn")


PARTS: Parts = {
    "first_paint_cpu_ms": starting,
    "jobs_10000_cpu_ms": filling,
    "events_500": partial(changing, "visible", (8, 60, 60)),
    "events_500_hidden": partial(changing, "hidden", (2, 60, 2)),
    "burst_5000_key_p95_ms": bursting,
    "slow_kib_per_s": saving,
    "log_20000_cpu_pct": printing,
    "log_open_1gib_ms": tailing,
    "idle_cpu_pct": resting,
    "rss_10000_mib": partial(holding, 10_000, 80),
    "rss_100000_mib": partial(holding, 100_000, 150),
    "sort_10000_ms": choosing,
    "cursor_step_bytes": stepping,
}
