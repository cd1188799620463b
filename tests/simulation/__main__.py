"""`python3 run.py simulate [--seeds N] [--first SEED] [--hours H]`: simulated fleets by the hundred.

Ends with 1 when a fleet broke a promise, naming its seed; `--seeds 1 --first SEED` shows the same again.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

from fleet_server.schema import migrate
from tests.simulation.fleet import HOURS, Report, scratch, simulate


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 run.py simulate")
    parser.add_argument("--seeds", type=int, default=200, help="how many fleets (200)")
    parser.add_argument("--first", type=int, default=0, help="the first one's seed (0)")
    parser.add_argument(
        "--hours", type=float, default=HOURS, help=f"virtual hours of trouble for each ({HOURS})"
    )
    given = parser.parse_args()
    sometimes: Counter[str] = Counter()
    broken, hours, seconds = [], 0.0, 0.0
    with tempfile.TemporaryDirectory(dir=scratch()) as name:
        folder = Path(name)
        migrate(f"sqlite:///{folder / 'empty.sqlite3'}")
        for seed in range(given.first, given.first + given.seeds):
            report = simulate(seed, folder / str(seed), folder / "empty.sqlite3", given.hours)
            shutil.rmtree(folder / str(seed))
            _tell(report)
            sometimes += report.sometimes
            hours, seconds = hours + report.virtual_hours, seconds + report.seconds
            if report.broken:
                broken.append(seed)
    print(f"\n{given.seeds} fleets, {hours:.0f} virtual hours in {seconds:.0f} s")
    for what, count in sorted(sometimes.items()):
        print(f"{count:9}  {what}")
    if broken:
        print(
            f"\n{len(broken)} broke a promise: {broken}. Again: python3 run.py simulate --seeds 1 --first {broken[0]}"
        )
    return 1 if broken else 0


def _tell(report: Report) -> None:
    verdict = "ok" if not report.broken else f"{len(report.broken)} broken promises"
    print(
        f"seed {report.seed}: {report.virtual_hours:.1f} h in {report.seconds:.1f} s, {report.trace}, {verdict}",
        *report.broken,
        sep="\n    ",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
