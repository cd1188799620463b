"""Workers that only claim: `python -m bench.rig.load URL TOKEN WORKERS JOBS` prints one JSON object.

A process of its own, so that it does not share the coordinator's interpreter.
"""

from __future__ import annotations

import json
import sys
import threading
import time

from bench.rig.caller import Caller, Worker, percentile, timed


class Claiming(threading.Thread):
    """Says hello, waits for the others, then claims until there is nothing left."""

    def __init__(self, caller: Caller, name: str, gate: threading.Barrier) -> None:
        super().__init__(name=name)
        self._caller, self._gate = caller, gate
        self.claimed: list[str] = []
        self.seconds: list[float] = []

    def run(self) -> None:
        worker = Worker(self._caller, self.name)
        self._gate.wait()
        while True:
            seconds, given = timed(worker.claim)
            if given is None:
                return
            self.seconds.append(seconds)
            self.claimed.append(given["job"]["job_id"])


def main(url: str, token: str, workers: int, jobs: int) -> None:
    gate = threading.Barrier(workers + 1)
    crowd = [Claiming(Caller(url, token), f"load-{number}", gate) for number in range(workers)]
    for claiming in crowd:
        claiming.start()
    gate.wait()
    began = time.perf_counter()
    for claiming in crowd:
        claiming.join()
    elapsed = time.perf_counter() - began
    claimed = [job for claiming in crowd for job in claiming.claimed]
    assert len(claimed) == len(set(claimed)) == jobs, (
        f"{len(claimed)} claims, {len(set(claimed))} jobs of {jobs}"
    )
    latencies = [seconds for claiming in crowd for seconds in claiming.seconds]
    told = {
        "per_second": jobs / elapsed,
        "median_ms": percentile(latencies, 0.5),
        "p99_ms": percentile(latencies, 0.99),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
