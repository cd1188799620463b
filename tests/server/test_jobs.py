"""What operators and workers do to jobs over HTTP, and what they are told when it cannot be done."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest

from fleet_server.database import Transaction
from fleet_server.errors import WrongState
from fleet_server.jobs import transitions
from fleet_server.jobs.queries import job_row
from fleet_server.jobs.record import apply
from tests.server.coordinator import Coordinator, digest, job, jobs, manifest, refused


async def test_a_job_from_the_manifest_to_its_artifact(fleet: Coordinator):
    await fleet.load(manifest(job("trees")))
    worker = await fleet.worker()
    held = await worker.take()
    assert (await worker.say("heartbeat", held)).json() == {
        "verdict": "continue",
        "why": None,
        "lease_seconds": 600,
    }
    metrics = {"f1": {"value": 0.9, "low": 0.8, "high": 0.95, "unit": ""}, "accuracy": {"value": 0.7}}
    answer = await worker.finish(
        held, metrics=metrics, provenance={"commit": "abc", "dirty": False}, log_bytes=0
    )
    assert answer.json() == {
        "job_id": held.job.job_id,
        "status": "completed",
        "attempt": held.attempt,
        "reason": None,
    }
    detail = await fleet.job("trees")
    assert (detail["status"], detail["artifact"], list(detail["metrics"])) == (
        "completed",
        digest(b"weights"),
        ["f1", "accuracy"],
    )
    assert detail["artifact_path"] == f"models/gbt_realistic/{digest(b'weights')}/bundle.tar.zst"
    assert [entry["status"] for entry in detail["history"]] == ["completed"]
    kinds = [event["kind"] for event in (await fleet.get("/v1/events"))["events"]]
    assert kinds == ["queued", "worker_hello", "claimed", "started", "completed"]


async def test_a_real_error_is_kept_with_its_tail(fleet: Coordinator):
    await fleet.load(manifest(job(max_attempts=1)))
    worker = await fleet.worker()
    held = await worker.take()
    answer = await worker.error(held, "KeyError: 'host'", tail="Traceback …\nKeyError: 'host'\n", log_bytes=5)
    assert answer.json()["status"] == "failed"
    detail = await fleet.job("a job")
    assert (detail["status"], detail["reason"], detail["errors"]) == ("failed", "KeyError: 'host'", 1)
    (tried,) = detail["history"]
    assert (tried["status"], tried["exit_code"], tried["tail"]) == (
        "failed",
        1,
        "Traceback …\nKeyError: 'host'\n",
    )


async def test_each_call_repeated_gives_the_same_answer_and_no_event(fleet: Coordinator):
    await fleet.load(manifest(*jobs(3)))
    worker = await fleet.worker(max_jobs=3)
    done, failed, released = [await worker.take() for _ in range(3)]

    async def twice(call):
        first = await call()
        events = await fleet.count("events")
        second = await call()
        assert (first.status_code, first.json()) == (second.status_code, second.json())
        assert first.status_code == 200
        assert await fleet.count("events") == events

    await twice(lambda: worker.say("start", done))
    await twice(lambda: worker.finish(done))
    await twice(lambda: worker.error(failed))
    await twice(lambda: worker.say("release", released, reason="drained"))


async def test_a_stale_attempt_is_told_the_truth_and_changes_nothing(fleet: Coordinator):
    await fleet.load(manifest(job()))
    one = await fleet.worker("one")
    lost = await one.take()
    await one.say("release", lost, reason="drained")
    two = await fleet.worker("two")
    held = await two.take()
    await one.upload(lost, b"late")
    events = await fleet.count("events")
    for answer in (
        await one.say("start", lost),
        await one.error(lost),
        await one.say("complete", lost, artifact=digest(b"late")),
        await two.say("start", lost),
    ):
        problem = await refused(answer, 409, "stale_attempt")
        assert problem["current"] == {
            "job_id": held.job.job_id, "status": "running", "attempt": held.attempt, "worker": "two",
        }  # fmt: skip
    assert (await one.say("heartbeat", lost)).json()["verdict"] == "stop"
    assert await fleet.count("events") == events


async def test_heartbeats_are_never_an_error(fleet: Coordinator):
    worker = await fleet.worker()
    body = {"worker": worker.id, "attempt": str(uuid4()), "progress": {"step": 1}}
    answer = await worker.post(f"/v1/job/{'0' * 16}/heartbeat", body)
    assert (answer.status_code, answer.json()["verdict"]) == (200, "unknown")


async def test_unknown_jobs_and_attempts(fleet: Coordinator):
    await fleet.load(manifest(job()))
    worker = await fleet.worker()
    held = await worker.take()
    for path in ("", "/explain", "/log"):
        problem = await refused(await fleet.http().get(f"/v1/job/nothing{path}"), 404, "unknown_job")
        assert problem["next"] == "fleet list"
    for verb in ("cancel", "requeue"):
        await refused(await fleet.post(f"/v1/job/nothing/{verb}"), 404, "unknown_job")
    body = {"worker": worker.id, "attempt": held.attempt}
    await refused(await worker.post(f"/v1/job/{'0' * 16}/start", body), 404, "unknown_job")
    body["attempt"] = str(uuid4())
    await refused(await worker.post(f"/v1/job/{held.job.job_id}/start", body), 404, "unknown_attempt")
    await refused(await worker.post("/v1/job/short/start", body), 422, "invalid_request")


async def test_a_completion_needs_its_artifact(fleet: Coordinator):
    await fleet.load(manifest(*jobs(2)))
    worker = await fleet.worker(max_jobs=2)
    one, two = [await worker.take() for _ in range(2)]
    await worker.upload(two, b"weights")
    await refused(await worker.say("complete", one, artifact=digest(b"weights")), 409, "artifact_missing")
    assert (await fleet.job(one.job.job_id))["status"] == "running"


async def test_cancel(fleet: Coordinator):
    await fleet.load(manifest(*jobs(2)))
    worker = await fleet.worker()
    held = await worker.take()
    other = "job 000" if held.job.name == "job 001" else "job 001"
    waiting = (await fleet.post(f"/v1/job/{other}/cancel", {"reason": "no use"})).json()
    assert (waiting["status"], waiting["reason"]) == ("cancelled", "no use")
    for _ in range(2):
        asked = (await fleet.post(f"/v1/job/{held.job.job_id}/cancel")).json()
        assert (asked["status"], asked["cancel_requested"]) == ("running", True)
    told = (await worker.say("heartbeat", held)).json()
    assert (told["verdict"], told["why"]) == ("stop", "cancelled by the operator")
    ended = (await worker.say("release", held, reason="stopped")).json()
    assert ended["status"] == "cancelled"
    problem = await refused(await fleet.post(f"/v1/job/{held.job.job_id}/cancel"), 409, "wrong_state")
    assert problem["current"]["status"] == "cancelled"


async def test_requeue(fleet: Coordinator):
    await fleet.load(manifest(job(max_attempts=1)))
    problem = await refused(await fleet.post("/v1/job/a job/requeue"), 409, "wrong_state")
    assert problem["next"] == f"fleet show {problem['current']['job_id']}"
    worker = await fleet.worker()
    await worker.error(await worker.take())
    view = (await fleet.post("/v1/job/a job/requeue", {"reason": "mended"})).json()
    assert (view["status"], view["reason"]) == ("pending", None)
    detail = await fleet.job("a job")
    assert (detail["errors"], len(detail["history"])) == (0, 1)
    held = await worker.take()
    assert held.number == 2
    await worker.finish(held)
    await refused(await fleet.post("/v1/job/a job/requeue"), 409, "wrong_state")


async def test_cancel_against_complete_has_one_winner(fleet: Coordinator):
    await fleet.load(manifest(*jobs(20)))
    worker = await fleet.worker(max_jobs=20, cores=20, ram_gib=80)
    held = [await worker.take() for _ in range(20)]
    for entry in held:
        await worker.upload(entry, b"weights")

    async def race(entry):
        _, done = await asyncio.gather(
            fleet.post(f"/v1/job/{entry.job.job_id}/cancel"),
            worker.say("complete", entry, artifact=digest(b"weights")),
        )
        assert done.json()["status"] == "completed"
        view = await fleet.job(entry.job.job_id)
        assert (view["status"], view["cancel_requested"]) == ("completed", False)

    await asyncio.gather(*map(race, held))


async def test_a_job_is_found_by_id_prefix_or_name(fleet: Coordinator):
    await fleet.load(manifest(*jobs(2)))
    wanted = (await fleet.job("job 001"))["job_id"]
    for length in (4, 15, 16):
        assert (await fleet.job(wanted[:length]))["name"] == "job 001"
    await refused(await fleet.http().get(f"/v1/job/{wanted[:3]}"), 404, "unknown_job")


async def test_an_ambiguous_name_lists_the_ids(fleet: Coordinator):
    await fleet.load(manifest(job("twin", seed=1), job("twin", seed=2)))
    problem = await refused(await fleet.http().get("/v1/job/twin"), 409, "invalid_request")
    ids = {entry["key"] for entry in problem["errors"]}
    assert {(await fleet.job(job_id))["name"] for job_id in ids} == {"twin"}
    assert len(ids) == 2
    await refused(await fleet.post("/v1/job/twin/cancel"), 409, "invalid_request")


async def test_a_name_that_looks_like_a_prefix_is_ambiguous_too(fleet: Coordinator):
    await fleet.load(manifest(job("one")))
    prefix = (await fleet.job("one"))["job_id"][:4]
    await fleet.load(manifest(job("one"), job(prefix, seed=1)))
    problem = await refused(await fleet.http().get(f"/v1/job/{prefix}"), 409, "invalid_request")
    assert len(problem["errors"]) == 2


@pytest.mark.parametrize("sort", ["queued", "updated", "name", "status", "priority"])
@pytest.mark.parametrize("sign", ["", "-"])
async def test_pages_neither_repeat_nor_skip(fleet: Coordinator, sort: str, sign: str):
    wanted: list[dict[str, object]] = []
    for seed in range(3):
        wanted += [
            job(f"job {seed % 2}", priority=number % 2, seed=10 * seed + number) for number in range(4)
        ]
        await fleet.load(manifest(*wanted))
        fleet.clock.advance(1)
    worker = await fleet.worker(max_jobs=3)
    for _ in range(3):
        await worker.take()
    seen, cursor = [], None
    while True:
        page = await fleet.get(
            "/v1/jobs", sort=sign + sort, limit=5, **({"cursor": cursor} if cursor else {})
        )
        seen += page["jobs"]
        cursor = page["next"]
        if cursor is None:
            break
        assert len(page["jobs"]) == 5
    assert len({view["job_id"] for view in seen}) == len(seen) == 12
    key = {"queued": "queued_at", "updated": "updated_at"}.get(sort, sort)
    values = [view[key] for view in seen]
    assert values == sorted(values, reverse=bool(sign))


async def test_filters(fleet: Coordinator):
    await fleet.load(
        manifest(job("first 50%"), job("second", model="mlp", mode="oracle"), job("third_x", seed=3))
    )
    worker = await fleet.worker(models=["mlp"])
    await worker.take()

    async def names(**filters):
        return [view["name"] for view in (await fleet.get("/v1/jobs", sort="name", **filters))["jobs"]]

    assert await names(status=["running", "failed"]) == ["second"]
    assert await names(status="pending") == ["first 50%", "third_x"]
    assert await names(model="mlp") == await names(mode="oracle") == await names(worker="box") == ["second"]
    assert await names(q="IR") == ["first 50%", "third_x"]
    assert await names(q="%") == ["first 50%"]
    assert await names(q="_") == ["third_x"]
    assert await names(q=(await fleet.job("second"))["job_id"][:6]) == ["second"]
    assert await names(model="mlp", status="pending") == []


async def test_explain(fleet: Coordinator):
    await fleet.load(manifest(job("big", min_ram_gib=64), job("small", seed=1)))
    assert (await fleet.get("/v1/job/big/explain"))["summary"] == "no worker has said hello yet"
    worker = await fleet.worker()
    told = await fleet.get("/v1/job/big/explain")
    (fit,) = told["workers"]
    assert fit["worker"] == "box"
    assert [(r["code"], r["required"], r["offered"]) for r in fit["refusals"]] == [
        ("too_little_ram", "64 GiB RAM", "32 GiB RAM")
    ]
    assert told["summary"] == (await fleet.job("big"))["reason"]
    await worker.take()
    assert (await fleet.get("/v1/job/small/explain"))["summary"] == "running on box"


async def test_a_change_decided_on_an_older_row_touches_nothing(fleet: Coordinator):
    """The WHERE of the one function that changes a job."""
    await fleet.load(manifest(job()))
    job_id = (await fleet.job("a job"))["job_id"]
    writer = fleet.services.database.writer
    old = await writer.run(lambda tx: job_row(tx.connection, job_id))
    assert (await fleet.post(f"/v1/job/{job_id}/cancel")).status_code == 200
    events = await fleet.count("events")

    def late(tx: Transaction) -> None:
        change = transitions.cancelled(old, tx.now, "late")
        assert change is not None
        apply(tx, change, "operator")

    with pytest.raises(WrongState):
        await writer.run(late)
    assert await fleet.count("events") == events


async def test_one_operation_that_fails_costs_the_others_of_its_batch_nothing(fleet: Coordinator):
    await fleet.load(manifest(*jobs(20)))
    good = [fleet.post(f"/v1/job/job {number:03}/cancel") for number in range(20)]
    bad = [fleet.post(f"/v1/job/job {number:03}/requeue") for number in range(0, 20, 2)]
    answers = await asyncio.gather(*good, *bad)
    assert [answer.status_code for answer in answers[:20]] == [200] * 20
    statuses = [view["status"] for view in (await fleet.get("/v1/jobs"))["jobs"]]
    requeued = sum(answer.status_code == 200 for answer in answers[20:])
    assert statuses.count("pending") == requeued
    events = (await fleet.get("/v1/events", limit=1000))["events"]
    assert [event["event"] for event in events] == list(range(1, len(events) + 1)), (
        "dense, in the order of commits"
    )


async def test_ready_names_its_parts(fleet: Coordinator):
    answer = (await fleet.http("viewer").get("/v1/ready")).json()
    assert answer["ready"] is True
    assert {"database", "loops"} <= answer["parts"].keys()
    assert (await fleet.http(None).get("/v1/health")).json() == {"status": "ok"}
