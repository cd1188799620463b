"""Calls over plain connections: on a machine with two cores a heavier client would measure itself."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Sequence
from typing import Any, Self
from uuid import uuid4

from fleet_protocol.capability import Capability
from fleet_protocol.ids import new_worker_id
from fleet_protocol.version import PROTOCOL
from fleet_protocol.workers import HelloRequest

OFFER = Capability(hostname="load", os="load", cores=8192, ram_gib=8192, models=("gbt",), max_jobs=1024)


class Refused(Exception):
    """An answer that was not expected here."""


class Caller:
    """One connection, kept open, and the token that goes with each call."""

    def __init__(self, url: str, token: str) -> None:
        self._http = http.client.HTTPConnection(url.removeprefix("http://"), timeout=600)
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self.calls = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def call(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._http.request(method, path, body, {**self._headers, **named})
        answer = self._http.getresponse()
        self.calls += 1
        return answer.status, answer.read()

    def done(self, method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
        """The answer to a call that has to succeed."""
        status, said = self.call(method, path, body, **headers)
        if status >= 300:
            raise Refused(f"{method} {path}: {status} {said[:300]!r}")
        return said

    def post(self, path: str, **body: object) -> Any:
        return json.loads(self.done("POST", path, json.dumps(body).encode()) or b"null")

    def get(self, path: str) -> Any:
        return json.loads(self.done("GET", path))


class Worker:
    """A worker as its calls; several may share one connection."""

    def __init__(self, caller: Caller, name: str, offer: Capability = OFFER) -> None:
        self._caller, self.id = caller, new_worker_id()
        hello = HelloRequest(
            worker=self.id, name=name, protocol=PROTOCOL, version="0", incarnation=str(uuid4()), capability=offer
        )  # fmt: skip
        caller.done("POST", "/v1/worker/hello", hello.model_dump_json().encode())

    def claim(self, wait: float = 0) -> Any:
        """Job and attempt, or None when there is nothing."""
        return self._caller.post("/v1/job/claim", worker=self.id, claim_id=str(uuid4()), wait=wait)

    def tell(self, claimed: Any, what: str, **more: object) -> Any:
        """`start`, `heartbeat`, `complete`, `fail` or `release` about what was claimed."""
        path = f"/v1/job/{claimed['job']['job_id']}/{what}"
        return self._caller.post(path, worker=self.id, attempt=claimed["attempt"], **more)


def percentile(seconds: Sequence[float], share: float) -> float:
    """In milliseconds."""
    return 1000 * sorted(seconds)[min(int(share * len(seconds)), len(seconds) - 1)]


def timed(call: Any, *arguments: Any) -> tuple[float, Any]:
    """Seconds that a call took, and what it gave."""
    began = time.perf_counter()
    given = call(*arguments)
    return time.perf_counter() - began, given
