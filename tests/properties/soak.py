"""`python3 run.py soak`: histories by the hundred thousand, then requests by the thousand.

    python3 run.py soak                          100,000 histories on SQLite in memory, all cores
    python3 run.py soak --histories 500 --postgres     on a PostgreSQL that is started for it
    python3 run.py soak --seed 4711 --histories 1      the one that failed, again
    python3 run.py soak --histories 0 --requests 200   only hostile requests, so many an operation

A failure prints the seed and the steps that led to it. A rare case that no history met fails a run of 10,000 or more.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack
from pathlib import Path

import structlog

from fleet_server.schema import migrate
from tests.postgres import server
from tests.properties.history import SOMETIMES
from tests.properties.inline import Stage
from tests.properties.seeded import furnish, play

PORTION = 500
SURE = 10_000
"""Histories after which each of the rare cases must have been met."""


def portion(seeds: range, url: str | None) -> Counter[str]:
    """Play these seeds; how often each of the rare cases was met."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    met: Counter[str] = Counter()
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder, ExitStack() as stack:
        stage = _stage(Path(folder), url)
        stack.callback(stage.close)
        beginning = furnish(stage)
        gc.disable()  # a tenth of the time, and a portion fits into memory
        for seed in seeds:
            play(stage, beginning, seed, met)
    gc.collect()  # the process plays another portion, and hundreds of them would not fit
    return met


def _stage(folder: Path, url: str | None) -> Stage:
    if url is not None:
        return Stage(url, folder)
    empty = folder / "empty.sqlite3"
    migrate(f"sqlite:///{empty}")
    return Stage("sqlite://", folder, empty)


def portions(first: int, count: int, processes: int) -> Iterator[tuple[int, Counter[str]]]:
    """All of it, a portion at a time, as they come in."""
    with ProcessPoolExecutor(processes) as pool:
        ranges = [range(at, min(at + PORTION, first + count)) for at in range(first, first + count, PORTION)]
        waiting = {pool.submit(portion, seeds, None): len(seeds) for seeds in ranges}
        try:
            for done in as_completed(waiting):
                yield waiting[done], done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def on_postgres(first: int, count: int) -> Iterator[tuple[int, Counter[str]]]:
    with server() as running:
        for at in range(first, first + count, PORTION):
            seeds = range(at, min(at + PORTION, first + count))
            with running.database() as url:
                yield len(seeds), portion(seeds, url)


def histories(first: int, count: int, processes: int, *, postgres: bool) -> int:
    """Play and tell; the exit code."""
    began = told = time.monotonic()
    met: Counter[str] = Counter()
    done = 0
    for played, found in on_postgres(first, count) if postgres else portions(first, count, processes):
        met += found
        done += played
        if time.monotonic() - told > 10:
            told = time.monotonic()
            print(f"{done:,} of {count:,} histories, {done / (told - began):.0f} a second", flush=True)
    seconds = time.monotonic() - began
    for case in sorted(SOMETIMES):
        print(f"{met[case]:>10,}  {case}")
    missed = sorted(case for case in SOMETIMES if not met[case])
    engine = "PostgreSQL" if postgres else "SQLite"
    print(
        f"{done:,} histories on {engine} from seed {first} in {seconds:.0f} s ({done / seconds:.0f} a second), "
        f"{sum(met[case] for case in met if case.startswith('event: ')):,} events, "
        f"{len(SOMETIMES) - len(missed)} of {len(SOMETIMES)} rare cases met, no promise broken"
    )
    if missed and count >= SURE:
        print(f"Never met: {', '.join(missed)}", file=sys.stderr)
        return 1
    return 0


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python3 run.py soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--histories", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0, help="of the first one; the others count on from it")
    parser.add_argument("--postgres", action="store_true", help="on PostgreSQL instead of SQLite in memory")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--requests", type=int, default=0, help="hostile requests for each operation")
    given = parser.parse_args(arguments)
    failed = 0
    if given.histories:
        failed = histories(given.seed, given.histories, given.processes, postgres=given.postgres)
    if given.requests and not failed:
        import pytest

        os.environ["FLEET_HOSTILE_EXAMPLES"] = str(given.requests)
        failed = int(pytest.main(["-q", "--timeout", "0", "tests/properties/test_hostile_requests.py"]))
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
