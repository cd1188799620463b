"""Every operation of the interface, asked what its document allows and what it forbids, by every role.

Whatever comes: no 5xx, each refusal is a problem with a stable code, and a refused request has changed nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from schemathesis.generation import GenerationMode

from fleet_protocol.errors import PROBLEM_JSON, Code, Problem
from fleet_server.app import create_app
from fleet_server.schema import migrate
from fleet_server.settings import Settings
from tests.server.coordinator import Coordinator, FakeClock, jobs, manifest, running
from tests.server.coordinator import digest as digest_of

EXAMPLES = int(os.environ.get("FLEET_HOSTILE_EXAMPLES", "8"))
DOCUMENT = create_app(Settings()).openapi()
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
OPERATIONS = [
    (path, method)
    for path, methods in DOCUMENT["paths"].items()
    for method in methods
    if method in {"get", "put", "post", "patch", "head"}
]
TABLES = ("jobs", "attempts", "uploads", "artifacts", "blobs", "manifests", "events")


@dataclass
class Served:
    """A coordinator with jobs in every state, at work in a thread of its own."""

    url: str
    data: Path
    tokens: dict[str, dict[str, str]]
    known: dict[str, list[str]]
    """Values that mean something here, by the name of the parameter or field."""

    def state(self) -> list[Any]:
        with closing(sqlite3.connect(self.data / "fleet.sqlite3")) as connection:
            tables = [connection.execute(f"SELECT * FROM {table}").fetchall() for table in TABLES]
        return [*tables, sorted(path.name for path in (self.data / "uploads").iterdir())]


async def _furnish(fleet: Coordinator) -> dict[str, list[str]]:
    await fleet.load(manifest(*jobs(5)))
    worker, other = await fleet.worker("box"), await fleet.worker("other")
    done = await worker.take()
    await worker.finish(done)
    failed = await worker.take()
    await worker.error(failed)
    held, theirs = await worker.take(), await other.take()
    await worker.log(held, 0, b"a line\n")
    blob = digest_of(b"blob")
    await fleet.http().put(f"/v1/blob/{blob}", content=b"blob")
    listed = (await fleet.get("/v1/jobs"))["jobs"]
    digest = (await fleet.get("/v1/models"))["models"][0]["sha256"]
    ids = [entry["job_id"] for entry in listed]
    return {
        "job_id": ids,
        "ref": [*ids, *(entry["name"] for entry in listed)],
        "attempt": [done.attempt, failed.attempt, held.attempt, theirs.attempt],
        "worker": [worker.id, other.id],
        "sha256": [digest, blob],
        "artifact": [digest],
    }


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    data = tmp_path_factory.mktemp("hostile") / "data"
    data.mkdir(mode=0o700)
    migrate(f"sqlite:///{data / 'fleet.sqlite3'}")
    ready: list[Served] = []
    loop, over = asyncio.new_event_loop(), asyncio.Event()
    told = threading.Event()

    async def serve() -> None:
        async with running(data, FakeClock()) as fleet:
            tokens = {role: fleet.headers(role) for role in ("viewer", "operator", "agent")}
            ready.append(Served(fleet.url, data, tokens, await _furnish(fleet)))
            told.set()
            await over.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=[serve()])
    thread.start()
    assert told.wait(30)
    yield ready[0]
    loop.call_soon_threadsafe(over.set)
    thread.join()
    loop.close()
    shutil.rmtree(data)


def _meant(draw: st.DrawFn, served: Served, values: Any) -> Any:
    """Most often, ids that exist in the place of ids that only look like some."""
    if not isinstance(values, dict):
        return values
    known = {
        name: draw(st.sampled_from(served.known[name]))
        for name in values.keys() & served.known.keys()
        if draw(st.integers(0, 3))
    }
    patience = {"wait": 0} if isinstance(values.get("wait"), int | float) and values["wait"] > 0 else {}
    return {**values, **known, **patience}


@st.composite
def asked(draw: st.DrawFn, served: Served, path: str, method: str) -> httpx.Request:
    mode = draw(st.sampled_from([GenerationMode.POSITIVE, GenerationMode.NEGATIVE]))
    case = draw(SCHEMA[path][method].as_strategy(generation_mode=mode))
    case.path_parameters = _meant(draw, served, case.path_parameters)
    case.query = _meant(draw, served, case.query)
    body = _meant(draw, served, case.body)
    role = draw(st.sampled_from(sorted(served.tokens)))
    headers = {**{str(k): str(v) for k, v in (case.headers or {}).items()}, **served.tokens[role]}
    content: bytes | None = None
    if isinstance(body, bytes):
        content = body
    elif not isinstance(body, schemathesis.core.NotSet):
        content = json.dumps(body).encode()
        headers["content-type"] = "application/json"
    clean = {name.encode("ascii"): value.encode("latin-1", "replace") for name, value in headers.items()}
    return httpx.Request(
        method.upper(), served.url + case.formatted_path, params=case.query, headers=clean, content=content
    )


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_whatever_is_asked_the_answer_is_one(served: Served, path: str, method: str):
    with httpx.Client(timeout=40) as client:

        @seed(0)
        @settings(
            max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck)
        )
        @given(asked(served, path, method))
        def ask(request: httpx.Request) -> None:
            before = served.state()
            answer = client.send(request)
            assert answer.status_code < 500, answer.text
            if answer.status_code >= 400:
                assert served.state() == before, "a refused request changes nothing"
                if method != "head":
                    _is_problem(answer)

        ask()


def _is_problem(answer: httpx.Response) -> None:
    assert answer.headers["content-type"] == PROBLEM_JSON, answer.text
    problem = Problem.model_validate_json(answer.content)
    assert problem.status == answer.status_code
    assert problem.code in set(Code)


DEEP = b"[" * 5_000_000 + b"]" * 5_000_000
BODIES = {
    "ten megabytes of nesting": DEEP,
    "nesting within the limit": b'{"worker": ' + b'{"a":' * 500_000 + b"1" + b"}" * 500_001,
    "half a character": b'{"reason": "\\ud800", "worker": "\\udfff", "toml": "\\ud800", "file": "\\udc00"}',
    "not a number": b'{"wait": NaN, "capability": {"ram_gib": Infinity, "cores": -Infinity}}',
    "65 bits": b'{"wait": 18446744073709551616, "protocol": 36893488147419103232, "exit_code": 36893488147419103232}',
    "a key twice": b'{"worker": 1, "worker": 2}',
    "a zero byte": b'{"reason": "\\u0000", "toml": "\\u0000", "file": "\\u0000"}',
    "another encoding": '{"toml": "schema_version = 1"}'.encode("utf-16"),
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_bodies_that_are_meant_to_hurt(served: Served, body: bytes):
    before = served.state()
    headers = {"content-type": "application/json"}
    with httpx.Client(timeout=40, headers=headers) as client:
        for path, method in OPERATIONS:
            if method != "post":
                continue
            tokens = {"join_id": "a" * 8, "token_id": "a" * 8}
            known = {name: ids[0] for name, ids in served.known.items()}
            url = served.url + path.format(name="box", **tokens, **known)
            for role in ("operator", "agent"):
                answer = client.post(url, content=body, headers=served.tokens[role])
                assert 400 <= answer.status_code < 500, (path, answer.text)
                _is_problem(answer)
    assert served.state() == before


@pytest.mark.parametrize("verb", ["start", "complete", "fail", "release"])
def test_an_attempt_that_is_forged_stale_or_somebody_elses(served: Served, verb: str):
    """The forger may know everything but one thing."""
    work, (done, failed, held, theirs) = served.known["job_id"], served.known["attempt"]
    box, other = served.known["worker"]
    more: dict[str, dict[str, Any]] = {
        "complete": {"artifact": served.known["artifact"][0]},
        "fail": {"kind": "error", "reason": "no", "exit_code": 9},
        "release": {"reason": "drained"},
    }
    forged = "00000000-0000-4000-8000-000000000000"
    before = served.state()
    with httpx.Client(timeout=40, headers=served.tokens["agent"]) as client:
        for job in work:
            for worker, attempt in [
                (box, forged),
                (box, theirs),
                (other, held),
                (other, done),
                (forged, held),
            ]:
                body = {"worker": worker, "attempt": attempt, **more.get(verb, {})}
                answer = client.post(f"{served.url}/v1/job/{job}/{verb}", json=body)
                assert answer.status_code in (404, 409), answer.text
                _is_problem(answer)
        stale = client.post(
            f"{served.url}/v1/job/{work[1]}/fail",
            json={"worker": box, "attempt": failed, "kind": "error", "reason": "another reason"},
        )
        assert stale.status_code in (404, 409)
    assert served.state() == before
