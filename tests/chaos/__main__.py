"""`python3 run.py chaos [--minutes M] [--seed N] [--postgres]`: a fleet of real programs under a schedule of faults.

Ends with 1 when the fleet broke a promise, naming seed, schedule and the folder with every program's journal, or
when the run did not reach what it has to reach sometimes.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import postgres
from tests.chaos import sometimes
from tests.chaos.fleet import be_modest
from tests.chaos.run import MACHINES, Report, run

AN_HOUR = 60


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 run.py chaos")
    parser.add_argument("--minutes", type=float, default=3, help="how long faults come (3)")
    parser.add_argument("--seed", type=int, help="of the schedule; drawn and told if not given")
    parser.add_argument("--machines", type=int, default=MACHINES, help=f"how many ({MACHINES})")
    parser.add_argument("--postgres", action="store_true", help="the database is PostgreSQL")
    given = parser.parse_args()
    seed = secrets.randbelow(10_000) if given.seed is None else given.seed
    folder = Path(tempfile.mkdtemp(prefix="fleet-chaos-"))
    print(
        f"chaos: seed {seed}, {given.minutes:g} minutes, {given.machines} machines, in {folder}", flush=True
    )
    be_modest()
    with _database(given.postgres) as database:
        report = asyncio.run(run(folder, seed, given.minutes, given.machines, database))
    missing = _missing(report, given.minutes, database)
    _tell(report, missing)
    if report.broken or missing:
        print(
            f"\nEvery journal is in {folder}. Again: python3 run.py chaos --minutes {given.minutes:g} --seed {seed}"
        )
        return 1
    shutil.rmtree(folder)
    return 0


@contextmanager
def _database(wanted: bool) -> Iterator[str | None]:
    if not wanted:
        yield None
        return
    with postgres.server() as server, server.database() as url:
        yield url


def _missing(report: Report, minutes: float, database: str | None) -> list[str]:
    """What so long a run has to reach, and did not."""
    wanted: tuple[str, ...] | list[str] = sometimes.COMMON if minutes >= 3 else ()
    if minutes >= AN_HOUR:
        wanted = sometimes.everything(root=report.has_small_disks, sqlite=database is None)
    return [what for what in wanted if not report.sometimes[what]]


def _tell(report: Report, missing: list[str]) -> None:
    for title, counts in (("figures", report.figures), ("sometimes", report.sometimes)):
        print(f"\n{title}")
        for what, count in sorted(counts.items()):
            print(f"{count:12}  {what}")
    if report.broken:
        print("\nschedule")
        print(*report.schedule, sep="\n")
        print(f"\n{len(report.broken)} broken promises:", *report.broken, sep="\n  ")
    if missing:
        print(f"\nnever happened in this run: {', '.join(missing)}")
    if not report.broken and not missing:
        print("\nevery promise was kept")


if __name__ == "__main__":
    sys.exit(main())
