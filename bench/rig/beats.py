"""Many workers' heartbeats while others claim: `python -m bench.rig.beats URL TOKEN WORKERS SECONDS`.

Prints one JSON object. Each worker beats once, spread evenly over the time, which at 30 s is the real rate. A
beat's time counts from when it was due, so that one that has to queue here is not forgotten.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bench.rig.caller import Caller, Worker, percentile

BEATERS, CLAIMERS = 8, 8
Held = list[tuple[Worker, Any]]


class Claiming(threading.Thread):
    """Claims and gives back, as fast as it is answered."""

    def __init__(self, caller: Caller, name: str, ending: threading.Event) -> None:
        super().__init__(name=name)
        self._worker, self._ending = Worker(caller, name), ending
        self.claims = 0

    def run(self) -> None:
        while not self._ending.is_set():
            claimed = self._worker.claim(wait=1)
            if claimed is not None:
                self.claims += 1
                self._worker.tell(claimed, "release", reason="drained")


def main(url: str, token: str, workers: int, seconds: float) -> None:
    ending = threading.Event()
    step = seconds / workers

    def beat(number: int) -> list[float]:
        return _beat(shares[number], began + number * step, step * BEATERS)

    with ThreadPoolExecutor(BEATERS) as pool:
        shares = list(
            pool.map(lambda n: _holding(Caller(url, token), range(n, workers, BEATERS)), range(BEATERS))
        )
        others = [Claiming(Caller(url, token), f"claims-{number}", ending) for number in range(CLAIMERS)]
        for claiming in others:
            claiming.start()
        began = time.perf_counter() + 1
        late = [seconds for share in pool.map(beat, range(BEATERS)) for seconds in share]
    ending.set()
    for claiming in others:
        claiming.join()
    told = {
        "median_ms": percentile(late, 0.5),
        "p99_ms": percentile(late, 0.99),
        "claims_per_second": sum(claiming.claims for claiming in others) / seconds,
    }
    print(json.dumps(told))


def _holding(caller: Caller, numbers: range) -> Held:
    """Workers over one connection, each with a job that it has started."""
    held: Held = []
    for number in numbers:
        worker = Worker(caller, f"beats-{number}")
        claimed = worker.claim()
        worker.tell(claimed, "start")
        held.append((worker, claimed))
    return held


def _beat(held: Held, due: float, step: float) -> list[float]:
    late = []
    for worker, claimed in held:
        time.sleep(max(0.0, due - time.perf_counter()))
        answer = worker.tell(claimed, "heartbeat")
        late.append(time.perf_counter() - due)
        assert answer["verdict"] == "continue", answer
        due += step
    return late


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
