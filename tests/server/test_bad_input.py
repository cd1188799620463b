"""What does not have the form it should have: a problem that says so, nothing echoed, nothing changed."""

from __future__ import annotations

import pytest
from websockets.exceptions import InvalidStatus

from tests.server.coordinator import Coordinator, job, jobs, manifest, refused

SECRET = "fleet_S3CRET"
FAIL = '{"worker": "%s", "attempt": "%s", "kind": "error", "reason": "no", %s}'


async def test_no_such_path_and_no_such_method(fleet: Coordinator):
    await refused(await fleet.http().get("/v1/nothing"), 404, "not_found")
    answer = await fleet.http().delete("/v1/jobs")
    await refused(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "GET"


async def test_a_body_that_is_too_large(fleet: Coordinator):
    answer = await fleet.post("/v1/manifest/plan", {"toml": "#" * (8 * 1024 * 1024)})
    await refused(answer, 413, "too_large")


async def test_a_chunk_that_is_too_large(fleet: Coordinator):
    await fleet.load(manifest(job()))
    worker = await fleet.worker()
    held = await worker.take()
    await refused(await worker.log(held, 0, b"x" * (1024 * 1024 + 1)), 413, "too_large")
    assert (await worker.log(held, 0, b"x" * 1024 * 1024)).json() == {"durable": 1024 * 1024}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"worker": 1}',
        b'{"toml": 5}',
    ],
)
async def test_a_body_that_is_not_what_it_should_be(fleet: Coordinator, body: bytes):
    for path in ("/v1/worker/hello", "/v1/job/claim"):
        await _refused_json(fleet, path, body)


async def test_values_are_never_echoed(fleet: Coordinator):
    """A body may hold a token."""
    bodies = [
        f'{{"worker": "{SECRET}", "claim_id": "{SECRET}", "wait": "{SECRET}", "more": "{SECRET}"}}',
        f'{{"worker": "{SECRET}',
        f'"{SECRET}"',
    ]
    for body in bodies:
        headers = {"content-type": "application/json"}
        answer = await fleet.http("agent").post("/v1/job/claim", content=body, headers=headers)
        await refused(answer, 422, "invalid_request")
        assert SECRET not in answer.text


async def test_words_with_a_character_that_no_postgresql_can_hold(fleet: Coordinator):
    await fleet.load(manifest(job(max_attempts=1)))
    held = await (worker := await fleet.worker()).take()
    answer = await worker.error(held, "ended with \0", tail="last \0 words", exit_code=1)
    assert answer.status_code == 200
    (attempt,) = (await fleet.job("a job"))["history"]
    assert (attempt["reason"], attempt["tail"]) == ("ended with \ufffd", "last \ufffd words")


NUMBERS = ["NaN", "Infinity", "-Infinity", "1e999", str(2**64), str(-(2**63) - 1), "1" * 5000]


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("key", ["exit_code", "log_bytes"])
async def test_numbers_that_no_database_can_hold(fleet: Coordinator, key: str, number: str):
    await fleet.load(manifest(job()))
    worker = await fleet.worker()
    held = await worker.take()
    body = FAIL % (worker.id, held.attempt, f'"{key}": {number}')
    await _refused_json(fleet, f"/v1/job/{held.job.job_id}/fail", body)
    assert (await fleet.job("a job"))["status"] == "running"


@pytest.mark.parametrize("number", NUMBERS)
async def test_metrics_that_are_no_numbers(fleet: Coordinator, number: str):
    await fleet.load(manifest(job()))
    worker = await fleet.worker()
    held = await worker.take()
    await worker.upload(held, b"")
    body = (
        f'{{"worker": "{worker.id}", "attempt": "{held.attempt}", "artifact": "{"0" * 64}", '
        f'"metrics": {{"f1": {{"value": {number}}}}}}}'
    )
    path = f"/v1/job/{held.job.job_id}/complete"
    answer = await fleet.http("agent").post(path, content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 409, 422), (
        answer.text
    )  # a large number is one, but there is no such artifact


async def test_progress_that_no_reader_can_hold(fleet: Coordinator):
    await fleet.load(manifest(job()))
    worker = await fleet.worker()
    held = await worker.take()
    answer = await worker.say("heartbeat", held, progress={"step": 2**64})
    await refused(answer, 422, "invalid_request")


@pytest.mark.parametrize("text", ["\\ud800", "x\\udfff", "\\ud800\\u0041"])
async def test_half_a_character(fleet: Coordinator, text: str):
    await fleet.load(manifest(job()))
    worker = await fleet.worker()
    held = await worker.take()
    path = f"/v1/job/{held.job.job_id}/fail"
    for more in (f'"tail": "{text}"', f'"{text}": 1'):
        await _refused_json(fleet, path, FAIL % (worker.id, held.attempt, more))


async def _refused_json(fleet: Coordinator, path: str, body: str | bytes) -> None:
    answer = await fleet.http("agent").post(path, content=body, headers={"content-type": "application/json"})
    # 400: what no JSON reader takes, such as a number of thousands of digits
    await refused(answer, 400 if answer.status_code == 400 else 422, "invalid_request")
    assert len(answer.content) < 20_000


async def test_an_unknown_field_is_a_mistake(fleet: Coordinator):
    await fleet.load(manifest(job()))
    answer = await fleet.post("/v1/job/a job/cancel", {"reson": "typo"})
    problem = await refused(answer, 422, "invalid_request")
    assert problem["errors"] == [{"key": "body.reson", "message": "Extra inputs are not permitted"}]
    assert (await fleet.job("a job"))["status"] == "pending"


async def test_a_long_key_is_not_sent_back_whole(fleet: Coordinator):
    answer = await fleet.post("/v1/manifest/plan", {"k" * 1_000_000: 1})
    await refused(answer, 422, "invalid_request")
    assert len(answer.content) < 20_000


@pytest.mark.parametrize(
    "query",
    ["status=nonsense", "sort=nonsense", "limit=0", "limit=1001", "limit=x", "nonsense=1", "cursor=nonsense"],
)
async def test_questions_that_make_no_sense(fleet: Coordinator, query: str):
    answer = await fleet.http().get(f"/v1/jobs?{query}")
    assert answer.status_code in (409, 422), answer.text
    assert answer.json()["code"] == "invalid_request"


@pytest.mark.parametrize(
    "path",
    [
        f"/v1/events?after={2**70}",
        f"/v1/events?after={'9' * 5000}",
        "/v1/events?after=-1",
        "/v1/events?wait=31",
        "/v1/events?wait=nan",
        "/v1/attempt/nonsense/log",
        "/v1/attempt/00000000-0000-4000-8000-000000000000/log?offset=-1",
        "/v1/model/nonsense",
    ],
)
async def test_readers_numbers_and_ids(fleet: Coordinator, path: str):
    await refused(await fleet.http().get(path), 422, "invalid_request")


@pytest.mark.parametrize("path", ["/v1/events?after=x", "/v1/events?after=-1", "/v1/job/a/log?offset=x"])
async def test_a_websocket_with_a_wrong_query_is_refused_before_it_opens(fleet: Coordinator, path: str):
    with pytest.raises(InvalidStatus) as error:
        async with fleet.websocket(path):
            pass
    assert error.value.response.status_code == 422
    assert b"invalid_request" in error.value.response.body


async def test_a_websocket_to_nowhere(fleet: Coordinator):
    with pytest.raises(InvalidStatus) as error:
        async with fleet.websocket("/v1/job/nothing/log"):
            pass
    assert error.value.response.status_code == 404
    assert b"unknown_job" in error.value.response.body


async def test_a_cursor_of_another_order_or_of_nobody(fleet: Coordinator):
    await fleet.load(manifest(*jobs(3)))
    cursors = {
        sort: (await fleet.get("/v1/jobs", sort=sort, limit=1))["next"]
        for sort in ("queued", "name", "priority")
    }
    for sort in cursors:
        for other, cursor in cursors.items():
            answer = await fleet.http().get("/v1/jobs", params={"sort": sort, "cursor": cursor})
            assert answer.status_code == (200 if sort == other else 422), (sort, other)
    for forged in ("WyJwbGFpbiIsIHt9LCAieCJd", "WyJwbGFpbiIsIDFlNDAsICJ4Il0=", "e30=", "NQ==", "é"):
        answer = await fleet.http().get("/v1/jobs", params={"sort": "priority", "cursor": forged})
        await refused(answer, 422, "invalid_request")


@pytest.mark.parametrize(
    "value", ["bytes 0-9", "bytes 5-3/10", "bytes 0-10/10", f"bytes 0-1/{'9' * 5000}", "x"]
)
async def test_a_content_range_that_is_none(fleet: Coordinator, value: str):
    await fleet.load(manifest(job()))
    worker = await fleet.worker()
    held = await worker.take()
    answer = await worker.upload(held, b"data", **{"Content-Range": value})
    await refused(answer, 422, "invalid_request")
