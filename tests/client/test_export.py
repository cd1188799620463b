"""What goes to other tools is read back: TensorBoard's files by their published format, MLflow's calls by a server."""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest

from fleet_client.errors import BadAddress, BadAnswer, Unreachable
from fleet_client.export import NotExportable, Run, run_of
from fleet_client.export_mlflow import NotAccepted, Tracking, all_ended, key_of
from fleet_client.export_tensorboard import masked_crc, write
from fleet_protocol.ids import AttemptId
from fleet_protocol.jobs import Metric
from fleet_protocol.metrics import JobMetrics, Reading
from fleet_protocol.states import JobStatus
from tests.client.fake import ATTEMPT, NOW, a_job, detail_of

BEGAN = NOW.timestamp()
CURVES: dict[str, tuple[Reading, ...]] = {
    "loss": ((0, 1.5, BEGAN + 1), (300, None, BEGAN + 2), (70_000, 1e300, BEGAN + 3))
}


def a_run(attempt: AttemptId = ATTEMPT, points: int = 0) -> Run:
    detail = detail_of(a_job(1, JobStatus.FAILED, name="gbt: a/b"))
    history = (
        detail.history[0].model_copy(update={"attempt": attempt, "ended_at": NOW + timedelta(minutes=1)}),
    )
    metrics = {"accuracy": Metric(value=0.9, low=0.8)}
    curves = {**CURVES, "many": tuple((step, float(step), BEGAN) for step in range(points))}
    return run_of(
        detail.model_copy(update={"history": history, "metrics": metrics}),
        JobMetrics(job_id=detail.job_id, attempt=attempt, series=curves),
    )


def unvarint(data: bytes) -> tuple[int, bytes]:
    value = shift = 0
    for at, byte in enumerate(data):
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, data[at + 1 :]
    raise AssertionError("a varint without an end")


def fields(message: bytes) -> dict[int, Any]:
    """A protocol buffer's fields by number; a float of four or eight bytes, a whole number, or bytes."""
    found: dict[int, Any] = {}
    while message:
        key, message = unvarint(message)
        if key & 7 == 0:
            found[key >> 3], message = unvarint(message)
        elif key & 7 == 2:
            length, message = unvarint(message)
            found[key >> 3], message = message[:length], message[length:]
        else:
            kind = {1: "<d", 5: "<f"}[key & 7]
            size = struct.calcsize(kind)
            (found[key >> 3],), message = struct.unpack(kind, message[:size]), message[size:]
    return found


def frames(data: bytes) -> Iterator[bytes]:
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        assert data[8:12] == masked_crc(data[:8])
        payload, data = data[12 : 12 + length], data[12 + length :]
        assert data[:4] == masked_crc(payload)
        yield payload
        data = data[4:]


def test_the_checksum_is_the_published_one():
    (masked,) = struct.unpack("<I", masked_crc(b"123456789"))
    turned = (masked - 0xA282EAD8) & 0xFFFFFFFF
    assert (turned >> 17 | turned << 15) & 0xFFFFFFFF == 0xE3069283


def test_an_event_file_tells_every_point_and_the_test(tmp_path: Path):
    file = write(a_run(), tmp_path)
    assert file.parent.name == "gbt_a_b-0000000000000001"
    first, *others = map(fields, frames(file.read_bytes()))
    assert first == {1: BEGAN, 3: b"brain.Event:2"}
    told = []
    for event in others:
        value = fields(fields(event[5])[1])
        told.append((value[1], event[2], event[1], value[2]))
    assert told[0] == (b"loss", 0, BEGAN + 1, 1.5)
    assert math.isnan(told[1][3])
    assert told[2] == (b"loss", 70_000, BEGAN + 3, math.inf)
    assert told[3] == (b"test/accuracy", 70_000, BEGAN + 60, pytest.approx(0.9))
    assert [one[0] for one in told[4:]] == [b"test/accuracy.low"]


def test_a_later_attempt_takes_the_place_of_the_one_before(tmp_path: Path):
    write(a_run(), tmp_path)
    second = write(a_run(AttemptId(str(uuid4()))), tmp_path)
    assert list(tmp_path.rglob("*.*")) == [second]


def test_what_never_ran_is_not_exported():
    waiting = detail_of(a_job(1))
    with pytest.raises(NotExportable, match="has not run yet"):
        run_of(waiting, JobMetrics(job_id=waiting.job_id, attempt=ATTEMPT))


class Fake(ThreadingHTTPServer):
    """As much of a tracking server as is asked for, with MLflow's limits; `breaks` ends the answers to log-batch."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), FakeCalls)
        self.experiments: dict[str, str | None] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.breaks = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class FakeCalls(BaseHTTPRequestHandler):
    server: Fake

    def do_GET(self) -> None:
        call = urlsplit(self.path)
        name = parse_qs(call.query)["experiment_name"][0]
        if name in self.server.experiments:
            self._answer({"experiment": {"experiment_id": self.server.experiments[name], "name": name}})
        else:
            self._answer({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "none"}, 404)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        fake, runs = self.server, self.server.runs
        match self.path.removeprefix("/api/2.0/mlflow/"):
            case "experiments/create":
                fake.experiments[body["name"]] = "7"
                self._answer({"experiment_id": "7"})
            case "runs/search":
                wanted = dict(re.findall(r"tags\.`(.+?)` = '(.+?)'", body["filter"]))
                found = [run for run in runs.values() if wanted.items() <= run["tags"].items()]
                self._answer({"runs": [{"info": run["info"]} for run in found]} if found else {})
            case "runs/create":
                info = {"run_id": f"r{len(runs)}", "status": "RUNNING"}
                tags = {tag["key"]: tag["value"] for tag in body["tags"]}
                runs[info["run_id"]] = {"info": info, "tags": tags, "params": {}, "metrics": set()}
                self._answer({"run": {"info": info}})
            case "runs/log-batch":
                self._log(runs[body["run_id"]], body)
            case "runs/update":
                runs[body["run_id"]]["info"]["status"] = body["status"]
                self._answer({"run_info": runs[body["run_id"]]["info"]})

    def _log(self, run: dict[str, Any], body: dict[str, Any]) -> None:
        within = len(body["metrics"]) <= 1000 and len(body["params"]) <= 100
        if self.server.breaks or not within:
            self._answer({"error_code": "INVALID_PARAMETER_VALUE", "message": "too\nmuch"}, 400)
            return
        run["params"] |= {param["key"]: param["value"] for param in body["params"]}
        run["metrics"] |= {tuple(sorted(point.items())) for point in body["metrics"]}
        self._answer({})

    def _answer(self, said: dict[str, Any], status: int = 200) -> None:
        body = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, *_: object) -> None:
        pass


@pytest.fixture
def fake() -> Iterator[Fake]:
    with Fake() as server:
        serving = Thread(target=server.serve_forever, args=(0.01,))
        serving.start()
        yield server
        server.shutdown()
        serving.join()


async def export(url: str, run: Run) -> str:
    async with Tracking(url) as tracking:
        return await tracking.export(await tracking.experiment("lab"), run)


async def test_a_run_goes_to_mlflow_once_within_its_limits(fake: Fake):
    run = a_run(points=2500)
    assert [await export(fake.url, run) for _ in range(2)] == ["r0", "r0"]
    (told,) = fake.runs.values()
    assert told["info"]["status"] == "FAILED"
    assert told["params"]["hyper.trees"] == "30"
    assert len(told["metrics"]) == 2505
    assert (
        ("key", "loss"),
        ("step", 300),
        ("timestamp", round(BEGAN * 1000) + 2000),
        ("value", "NaN"),
    ) in told["metrics"]
    assert await export(fake.url, a_run(AttemptId(str(uuid4())))) == "r1"


async def test_what_broke_off_is_gone_on_with(fake: Fake):
    fake.breaks = True
    with pytest.raises(NotAccepted, match=r"refused: too much$"):
        await export(fake.url, a_run())
    fake.breaks = False
    assert await export(fake.url, a_run()) == "r0"
    assert fake.runs["r0"]["info"]["status"] == "FAILED"


async def test_what_is_no_mlflow_is_told(fake: Fake):
    with pytest.raises(BadAddress):
        Tracking("127.0.0.1:5000")
    fake.experiments["lab"] = None
    with pytest.raises(BadAnswer, match="is no MLflow server"):
        await export(fake.url, a_run())
    with pytest.raises(Unreachable, match="No answer from MLflow"):
        await export("http://127.0.0.1:1", a_run())


def test_a_job_that_may_still_grow_is_not_sent():
    run = a_run()
    with pytest.raises(NotExportable, match="is running"):
        all_ended([replace(run, job=run.job.model_copy(update={"status": JobStatus.RUNNING}))])


def test_names_in_letters_that_mlflow_takes_stay_apart():
    assert key_of("train/loss a-b.c_d") == "train/loss a-b.c_d"
    assert key_of("acc%") != key_of("acc$")
