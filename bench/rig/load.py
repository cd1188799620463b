"""Workers that only claim: `python -m bench.rig.load URL TOKEN WORKERS JOBS` prints one JSON object.

A process of its own, so that it does not share the coordinator's interpreter; threads over plain connections,
because on a machine with two cores a heavier client would measure itself.
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
from uuid import uuid4

from fleet_protocol.capability import Capability
from fleet_protocol.ids import new_worker_id
from fleet_protocol.version import PROTOCOL
from fleet_protocol.workers import ClaimRequest, HelloRequest

OFFER = Capability(hostname="load", os="load", cores=64, ram_gib=256, models=("gbt",), max_jobs=1024)


class Worker(threading.Thread):
    """Says hello, waits for the others, then claims until there is nothing left."""

    def __init__(self, address: str, token: str, number: int, gate: threading.Barrier) -> None:
        super().__init__()
        self._http = http.client.HTTPConnection(address, timeout=60)
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self._id, self._number, self._gate = new_worker_id(), number, gate
        self.claimed: list[str] = []
        self.seconds: list[float] = []

    def run(self) -> None:
        hello = HelloRequest(
            worker=self._id, name=f"load-{self._number}", protocol=PROTOCOL, version="0",
            incarnation=str(uuid4()), capability=OFFER,
        )  # fmt: skip
        status, said = self._post("/v1/worker/hello", hello.model_dump_json())
        assert status == 200, said
        self._gate.wait()
        while True:
            began = time.perf_counter()
            body = ClaimRequest(worker=self._id, claim_id=str(uuid4())).model_dump_json()
            status, said = self._post("/v1/job/claim", body)
            if status != 200:
                return
            self.seconds.append(time.perf_counter() - began)
            self.claimed.append(json.loads(said)["job"]["job_id"])

    def _post(self, path: str, body: str) -> tuple[int, bytes]:
        self._http.request("POST", path, body, self._headers)
        answer = self._http.getresponse()
        return answer.status, answer.read()


def main(url: str, token: str, workers: int, jobs: int) -> None:
    gate = threading.Barrier(workers + 1)
    crowd = [Worker(url.removeprefix("http://"), token, number, gate) for number in range(workers)]
    for worker in crowd:
        worker.start()
    gate.wait()
    began = time.perf_counter()
    for worker in crowd:
        worker.join()
    elapsed = time.perf_counter() - began
    claimed = [job for worker in crowd for job in worker.claimed]
    assert len(claimed) == len(set(claimed)) == jobs, (
        f"{len(claimed)} claims, {len(set(claimed))} jobs of {jobs}"
    )
    latencies = sorted(seconds for worker in crowd for seconds in worker.seconds)
    print(json.dumps({"per_second": jobs / elapsed, "median_ms": 1000 * latencies[len(latencies) // 2]}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
