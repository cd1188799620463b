"""Everything a busy fleet asks of its coordinator at once: `python -m bench.rig.pattern URL TOKENS SECONDS`.

Twenty agents that claim, start, log, beat, upload and complete or fail; readers; an operator who requeues and
plans; a dashboard on the websocket. TOKENS is the folder of the local tokens. Prints one JSON object: how many
calls, how many went wrong (no answer, a 5xx, or a refusal of what a correct agent says), how many events the
dashboard saw, and the first wrong answer.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from websockets.sync.client import connect

from bench.rig.caller import Caller, Refused, Worker

AGENTS = 20
OPERATOR_SECONDS = 2.0
LINE = b"epoch 3 loss 0.1234 accuracy 0.987\n" * 20
Act = Callable[[], None]


class Crowd:
    """Threads that repeat what they do until the time is over, and what went wrong on the way."""

    def __init__(self, url: str, tokens: Path, seconds: float) -> None:
        self._url, self._tokens, self._until = url, tokens, time.monotonic() + seconds
        self._callers: list[Caller] = []
        self.wrong: list[str] = []
        self.events = 0
        makers = [self.agent] * AGENTS + [self.reader] * 2 + [self.operator]
        self.threads = [
            threading.Thread(target=self._repeat, args=(make, n)) for n, make in enumerate(makers)
        ]
        self.threads.append(threading.Thread(target=self.dashboard))

    @property
    def calls(self) -> int:
        return sum(caller.calls for caller in self._callers)

    def _caller(self, role: str) -> Caller:
        caller = Caller(self._url, (self._tokens / role).read_text().strip())
        self._callers.append(caller)
        return caller

    def _repeat(self, make: Callable[[int], Act], number: int) -> None:
        act: Act | None = None
        while time.monotonic() < self._until:
            try:
                act = act or make(number)
                act()
            except (OSError, Refused, AssertionError) as error:
                self.wrong.append(f"{make.__name__}: {type(error).__name__} {error}")
                act = None  # with a new connection

    def agent(self, number: int) -> Act:
        caller = self._caller("agent")
        worker = Worker(caller, f"agent-{number}-{len(self.wrong)}")

        def act() -> None:
            claimed = worker.claim(wait=1)
            if claimed is None:
                return
            worker.tell(claimed, "start")
            for part in range(3):
                _append(caller, claimed["attempt"], part * len(LINE))
                beat = worker.tell(claimed, "heartbeat", progress={"step": part, "total": 3})
                assert beat["verdict"] == "continue", beat
            if int(claimed["attempt"][0], 16) < 4:  # a quarter of them
                worker.tell(
                    claimed, "fail", kind="refused", reason="as told", exit_code=2, log_bytes=3 * len(LINE)
                )
                return
            artifact = _upload(caller, claimed["attempt"])
            worker.tell(claimed, "complete", artifact=artifact, log_bytes=3 * len(LINE))

        return act

    def reader(self, _: int) -> Act:
        caller = self._caller("viewer")

        def act() -> None:
            page = caller.get("/v1/jobs?sort=-updated&limit=100")["jobs"]
            caller.get("/v1/workers")
            caller.get("/v1/events?after=0&limit=100")
            caller.get(f"/v1/job/{page[0]['job_id']}")
            caller.get(f"/v1/job/{page[-1]['job_id']}/explain")

        return act

    def operator(self, _: int) -> Act:
        caller = self._caller("operator")

        def act() -> None:
            for job in caller.get("/v1/jobs?status=failed&limit=50")["jobs"]:
                caller.post(f"/v1/job/{job['job_id']}/requeue")
            caller.post("/v1/manifest/reload")
            time.sleep(OPERATOR_SECONDS)

        return act

    def dashboard(self) -> None:
        token = (self._tokens / "viewer").read_text().strip()
        address = f"{self._url.replace('http', 'ws', 1)}/v1/events"
        with connect(
            address, additional_headers={"Authorization": f"Bearer {token}"}, max_size=None, proxy=None
        ) as socket:
            cursor = json.loads(socket.recv())["cursor"]
            while time.monotonic() < self._until:
                for event in json.loads(socket.recv(5)).get("events", ()):
                    if event["event"] != cursor + 1:
                        self.wrong.append(f"dashboard: event {event['event']} after {cursor}")
                    cursor = event["event"]
                    self.events += 1


def _append(caller: Caller, attempt: str, offset: int) -> None:
    said: Any = json.loads(
        caller.done(
            "PATCH", f"/v1/attempt/{attempt}/log", LINE, Upload_Offset=str(offset), Content_Type="text/plain"
        )
    )
    assert said["durable"] == offset + len(LINE), said


def _upload(caller: Caller, attempt: str) -> str:
    data = os.urandom(2000)
    digest = hashlib.sha256(data).hexdigest()
    caller.done("PUT", f"/v1/model/{digest}?attempt={attempt}", data, Content_Type="application/zstd")
    return digest


def main(url: str, tokens: Path, seconds: float) -> None:
    crowd = Crowd(url, tokens, seconds)
    for thread in crowd.threads:
        thread.start()
    for thread in crowd.threads:
        thread.join()
    first = crowd.wrong[0] if crowd.wrong else None
    print(
        json.dumps({"calls": crowd.calls, "wrong": len(crowd.wrong), "events": crowd.events, "first": first})
    )


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]))
