"""How a machine becomes a worker, who else may speak to the coordinator, and how they are shut out."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
import structlog
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from fleet_protocol.credentials import Credential, make
from fleet_protocol.ids import new_worker_id
from fleet_server.access.queries import all_held
from tests.server.coordinator import Coordinator, Worker, refused

ONE_JOB = 'schema_version = 1\n[[jobs]]\nname = "a"\nmodel = "gbt"\n'


async def joining(fleet: Coordinator, **limits: Any) -> str:
    answer = await fleet.post("/v1/join", limits)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["token"])


async def knock(
    fleet: Coordinator, token: str, worker: str, own: Credential, name: str = "box"
) -> httpx.Response:
    body = {
        "worker": worker,
        "name": name,
        "credential": own.id,
        "secret_sha256": own.secret_sha256,
        "protocol": 1,
        "client_time": "2026-01-01T12:00:00Z",
    }
    return await fleet.http(None).post("/v1/enrol", json=body, headers=bearer(token))


def hello_of(worker: Worker) -> str:
    return json.dumps({"type": "hello", "worker": worker.id, "incarnation": worker.incarnation})


def bearer(token: object) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


class Enrolled(Worker):
    """A worker that speaks with its own credential."""

    own: Credential

    async def post(self, path: str, body: object) -> httpx.Response:
        return await self.coordinator.http(None).post(path, json=body, headers=bearer(self.own))


async def enrolled(fleet: Coordinator, name: str = "box") -> Enrolled:
    worker = Enrolled(fleet, name)
    worker.own = make("agent")
    answer = await knock(fleet, await joining(fleet), worker.id, worker.own, name)
    assert answer.status_code == 200, answer.text
    await worker.hello()
    return worker


async def kinds(fleet: Coordinator) -> list[str]:
    return [event["kind"] for event in (await fleet.get("/v1/events"))["events"]]


async def test_a_machine_joins_trains_and_stands_in_the_history(fleet: Coordinator):
    worker = await enrolled(fleet)
    await fleet.load(ONE_JOB)
    held = await worker.take()
    assert (await worker.say("heartbeat", held)).json()["verdict"] == "continue"
    assert {"join_made", "worker_enrolled", "worker_hello"} <= {*await kinds(fleet)}
    (join,) = (await fleet.get("/v1/joins"))["joins"]
    assert (join["uses_left"], join["used_by"]) == (0, ["box"])


async def test_of_twenty_at_once_one_gets_in(fleet: Coordinator):
    token = await joining(fleet)
    tries = [(new_worker_id(), make("agent")) for _ in range(20)]
    answers = await asyncio.gather(
        *(knock(fleet, token, who, own, f"box-{n}") for n, (who, own) in enumerate(tries))
    )
    assert sorted(answer.status_code for answer in answers) == [200, *[403] * 19]
    for answer in answers:
        if answer.status_code == 403:
            problem = await refused(answer, 403, "join_token_used_up")
            assert "by box-" in problem["detail"]
    assert await fleet.count("credentials") == 1


async def test_a_lost_answer_is_given_again(fleet: Coordinator):
    token, who, own = await joining(fleet), new_worker_id(), make("agent")
    first, second = [await knock(fleet, token, who, own) for _ in range(2)]
    assert first.json() == second.json()
    assert (await kinds(fleet)).count("worker_enrolled") == 1
    await refused(await knock(fleet, token, who, make("agent")), 403, "join_token_used_up")


async def test_each_trouble_with_a_join_token_has_its_own_word(fleet: Coordinator):
    own, who = make("agent"), new_worker_id()

    async def told(token: object, code: str, status: int = 403, name: str = "box") -> None:
        problem = await refused(await knock(fleet, str(token), who, own, name), status, code)
        assert make("join").secret not in str(problem)

    await told(make("join"), "join_token_unknown", 401)
    await told((await joining(fleet))[:-9], "token_malformed", 401)
    await told("nothing", "token_malformed", 401)
    await told(await joining(fleet, names="pi-*"), "join_token_scope")
    revoked = await joining(fleet)
    assert (await fleet.post(f"/v1/join/{revoked.split('_')[1]}/revoke")).status_code == 200
    await told(revoked, "join_token_revoked")
    late = await joining(fleet, seconds=60)
    fleet.clock.advance(61)
    await told(late, "join_token_expired")
    assert await fleet.count("credentials") == 0


async def test_a_name_that_a_live_worker_has_is_not_given_away(fleet: Coordinator):
    await enrolled(fleet)
    await refused(await knock(fleet, await joining(fleet), new_worker_id(), make("agent")), 409, "name_taken")


async def test_who_enrols_anew_leaves_no_old_key_behind(fleet: Coordinator):
    worker = await enrolled(fleet)
    before, worker.own = worker.own, make("agent")
    assert (await knock(fleet, await joining(fleet), worker.id, worker.own)).status_code == 200
    assert (await worker.hello())["protocol"] == 1
    worker.own = before
    await refused(await worker.post("/v1/worker/hello", worker.greeting()), 403, "agent_revoked")


async def test_an_agent_speaks_for_itself_alone(fleet: Coordinator):
    one, other = await enrolled(fleet, "one"), await enrolled(fleet, "other")
    await fleet.load(ONE_JOB)
    held = await one.take()
    await refused(await other.post("/v1/worker/hello", one.greeting()), 403, "not_permitted")
    for verb in ("heartbeat", "complete", "fail", "release", "start"):
        body = {"worker": one.id, "attempt": held.attempt}
        body |= {"artifact": "0" * 64} if verb == "complete" else {}
        body |= {"kind": "error", "reason": "x"} if verb == "fail" else {}
        body |= {"reason": "drained"} if verb == "release" else {}
        answer = await other.post(f"/v1/job/{held.job.job_id}/{verb}", body)
        await refused(answer, 403, "not_permitted")
    http = fleet.http(None)
    log = await http.patch(
        f"/v1/attempt/{held.attempt}/log", content=b"x", headers={**bearer(other.own), "Upload-Offset": "0"}
    )
    await refused(log, 403, "not_permitted")
    path = f"/v1/model/{'0' * 64}?attempt={held.attempt}"
    await refused(await http.put(path, content=b"x", headers=bearer(other.own)), 403, "not_permitted")
    assert (await fleet.job("a"))["status"] == "running"

    async with fleet.websocket("/v1/worker/stream", None, **bearer(other.own)) as stream:
        await stream.send(hello_of(one))
        with pytest.raises(ConnectionClosed) as closed:
            await stream.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008


async def test_the_old_key_dies_when_the_new_one_is_used(fleet: Coordinator):
    worker = await enrolled(fleet)
    new = make("agent")
    body = {"worker": worker.id, "credential": new.id, "secret_sha256": new.secret_sha256}
    for _ in range(2):
        assert (await worker.post("/v1/worker/credential", body)).status_code == 200
    before = worker.own
    await worker.hello()
    worker.own = new
    await worker.hello()
    worker.own = before
    await refused(await worker.post("/v1/worker/hello", worker.greeting()), 403, "agent_revoked")


async def test_who_is_revoked_is_cut_at_once_and_its_job_goes_back(fleet: Coordinator):
    worker, spare = await enrolled(fleet), await enrolled(fleet, "spare")
    await fleet.load(ONE_JOB)
    held = await worker.take()
    async with httpx.AsyncClient(base_url=fleet.url, headers=bearer(worker.own)) as kept:
        beat = {"worker": worker.id, "attempt": held.attempt}
        assert (await kept.post(f"/v1/job/{held.job.job_id}/heartbeat", json=beat)).status_code == 200
        async with fleet.websocket("/v1/worker/stream", None, **bearer(worker.own)) as stream:
            await stream.send(hello_of(worker))
            claim = {"worker": worker.id, "claim_id": new_worker_id(), "wait": 30, "holds": []}
            waiting = asyncio.ensure_future(worker.post("/v1/job/claim", claim))
            async with asyncio.timeout(10):
                while not fleet.services.access.bearers._waiting[worker.own.id]:  # noqa: ASYNC110 - nobody tells it
                    await asyncio.sleep(0.01)
            assert (await fleet.post("/v1/worker/box/revoke", {"reason": "stolen"})).status_code == 200
            await refused(await waiting, 403, "agent_revoked")
            with pytest.raises(ConnectionClosed) as closed:
                await stream.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 4403
        again = await kept.post(f"/v1/job/{held.job.job_id}/heartbeat", json=beat)
        await refused(again, 403, "agent_revoked")
    with pytest.raises(InvalidStatus) as refusal:
        async with fleet.websocket("/v1/worker/stream", None, **bearer(worker.own)):
            pass
    assert refusal.value.response.status_code == 403
    assert (await fleet.job("a"))["status"] == "pending"
    assert (await spare.take()).job.job_id == held.job.job_id
    assert "worker_revoked" in await kinds(fleet)


async def _last_of(events: ClientConnection) -> None:
    while True:
        await events.recv()


async def test_people_have_tokens_that_end(fleet: Coordinator):
    made = (await fleet.post("/v1/token", {"role": "operator", "name": "ada", "days": 1})).json()
    http, ada = fleet.http(None), bearer(made["token"])
    assert (await http.post("/v1/worker/none/drain", json={}, headers=ada)).status_code == 404
    await fleet.load(ONE_JOB)
    assert (await http.post("/v1/job/a/cancel", json={}, headers=ada)).status_code == 200
    last = (await fleet.get("/v1/events"))["events"][-1]
    assert (last["kind"], last["actor"]) == ("cancelled", "operator:ada")

    seen = (await fleet.post("/v1/token", {"role": "viewer", "name": "eve"})).json()
    await refused(
        await http.post("/v1/job/a/requeue", json={}, headers=bearer(seen["token"])), 403, "not_permitted"
    )
    async with fleet.websocket("/v1/events", None, **bearer(seen["token"])) as events:
        await events.recv()
        assert (await fleet.post(f"/v1/token/{seen['id']}/revoke")).status_code == 200
        with pytest.raises(ConnectionClosed) as closed:
            await _last_of(events)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4403
    await refused(await http.get("/v1/jobs", headers=bearer(seen["token"])), 403, "token_revoked")

    fleet.clock.advance(86_401)
    await refused(await http.get("/v1/jobs", headers=ada), 401, "token_expired")
    await refused(await fleet.post("/v1/token/aaaaaaaa/revoke"), 404, "unknown_token")
    wrong = str(make("operator"))
    await refused(await http.get("/v1/jobs", headers=bearer(wrong)), 401, "not_authenticated")
    await refused(await http.get("/v1/jobs", headers=bearer(made["token"][:40])), 401, "token_malformed")


async def test_a_token_in_an_address_or_twice_is_refused(fleet: Coordinator):
    made = (await fleet.post("/v1/token", {"role": "viewer", "name": "ada"})).json()["token"]
    await refused(await fleet.http().get(f"/v1/jobs?token={made}"), 401, "token_in_url")
    twice = [("Authorization", f"Bearer {made}")] * 2
    async with httpx.AsyncClient(base_url=fleet.url, headers=twice) as client:
        assert (await client.get("/v1/jobs")).status_code == 422


async def test_no_secret_is_in_a_log_line_an_event_or_an_answer(fleet: Coordinator):
    with structlog.testing.capture_logs() as lines:
        token = await joining(fleet)
        person = (await fleet.post("/v1/token", {"role": "viewer", "name": "ada"})).json()["token"]
        own = make("agent")
        said = [
            await knock(fleet, token, "no-uuid", own),
            await knock(fleet, token[:-1], new_worker_id(), own),
        ]
        said.append(await fleet.http(None).get(f"/v1/jobs?token={person}"))
        said += [await fleet.http().get(path) for path in ("/v1/joins", "/v1/tokens", "/v1/events")]
    everything = str(lines) + "".join(answer.text for answer in said)
    for secret in (token.split("_")[2], person.split("_")[2], own.secret):
        assert secret not in everything


async def test_credentials_outlive_the_coordinator(fleet: Coordinator):
    worker = await enrolled(fleet)
    async with fleet.services.database.read() as connection:
        (row,) = await connection.run_sync(all_held)
    assert (row.id, row.worker_id, row.secret_sha256) == (worker.own.id, worker.id, worker.own.secret_sha256)
