"""The SDK against a small coordinator on a real socket."""

from __future__ import annotations

import socket

import pytest
from starlette.responses import Response

from fleet_client import FleetClient
from fleet_client.errors import (
    BadAnswer,
    Conflict,
    NotAuthenticated,
    NotFound,
    Refused,
    Unavailable,
    Unreachable,
)
from fleet_client.follow import Piece, follow
from fleet_protocol.logs import LogEnd, LogStart
from fleet_protocol.states import JobStatus
from tests.client.fake import (
    ATTEMPT,
    TOKEN,
    Coordinator,
    a_job,
    a_snapshot,
    an_event,
    an_events_frame,
    completed,
)


def client(coordinator: Coordinator, token: str = TOKEN) -> FleetClient:
    return FleetClient(coordinator.url, token)


async def test_filters_travel_as_the_interface_names_them(coordinator: Coordinator):
    async with client(coordinator) as fleet:
        await fleet.jobs(status=[JobStatus.FAILED, JobStatus.PENDING], q="a b", sort="-updated", limit=5)
    assert coordinator.take() == ["GET /v1/jobs?status=failed&status=pending&q=a+b&sort=-updated&limit=5"]


async def test_all_jobs_walks_every_page_once(coordinator: Coordinator):
    coordinator.jobs, coordinator.page_size = [a_job(n) for n in range(5)], 2
    async with client(coordinator) as fleet:
        assert await fleet.all_jobs() == coordinator.jobs
    assert len(coordinator.take()) == 3


async def test_every_question_gives_its_model(coordinator: Coordinator):
    coordinator.jobs = [a_job(1)]
    async with client(coordinator) as fleet:
        assert (await fleet.job("job 1")).spec.hyper == {"trees": 30}
        assert (await fleet.explain("job 1")).workers[0].refusals[0].code == "no_cuda"
        assert (await fleet.workers()).workers[0].name == "pi-garage"
        assert (await fleet.artifacts()).models == ()
        assert (await fleet.manifest()).file == "m.toml"
        assert (await fleet.plan("x = 1", "m.toml")).entries[0].name == "big"
        await fleet.health()
    assert coordinator.take()[-2] == 'POST /v1/manifest/plan {"toml":"x = 1","file":"m.toml"}'


async def test_not_ready_is_an_answer_and_no_error(coordinator: Coordinator):
    async with client(coordinator) as fleet:
        answer = await fleet.ready()
    assert not answer.ready
    assert coordinator.take() == ["GET /v1/ready"]


async def test_a_name_with_a_slash_is_looked_up(coordinator: Coordinator):
    coordinator.jobs = [a_job(1, name="grid/lr=0.1"), a_job(2, name="grid/lr=0.1,depth=3")]
    async with client(coordinator) as fleet:
        assert (await fleet.job("grid/lr=0.1")).job_id == coordinator.jobs[0].job_id
        with pytest.raises(NotFound):
            await fleet.job("grid/lr=0.2")


async def test_an_ambiguous_name_lists_the_ids(coordinator: Coordinator):
    coordinator.jobs = [a_job(1, name="a/b"), a_job(2, name="a/b")]
    async with client(coordinator) as fleet:
        with pytest.raises(Conflict, match=f"{coordinator.jobs[0].job_id}, {coordinator.jobs[1].job_id}"):
            await fleet.cancel("a/b")
    assert not [asked for asked in coordinator.take() if asked.startswith("POST")]


async def test_refusals_carry_code_and_next_step(coordinator: Coordinator):
    async with client(coordinator) as fleet:
        with pytest.raises(NotFound) as refusal:
            await fleet.job("nonesuch")
    assert (refusal.value.code, refusal.value.next) == ("unknown_job", "fleet list")


async def test_a_wrong_token_is_the_same_error_on_both_kinds_of_connection(coordinator: Coordinator):
    async with client(coordinator, "wrong") as fleet:
        with pytest.raises(NotAuthenticated, match="not known here"):
            await fleet.jobs()
        with pytest.raises(NotAuthenticated, match="not known here"):
            await anext(fleet.events())


async def test_reading_is_repeated_when_the_coordinator_is_busy(coordinator: Coordinator):
    coordinator.busy = 2
    async with client(coordinator) as fleet:
        await fleet.jobs()
    assert len(coordinator.take()) == 3


async def test_reading_is_not_repeated_for_ever(coordinator: Coordinator):
    coordinator.busy = 100
    async with client(coordinator) as fleet:
        with pytest.raises(Unavailable):
            await fleet.jobs()
    assert len(coordinator.take()) == 3


async def test_an_order_is_sent_once(coordinator: Coordinator):
    coordinator.jobs, coordinator.busy = [a_job(1)], 1
    async with client(coordinator) as fleet:
        with pytest.raises(Unavailable):
            await fleet.cancel("job 1")
    assert coordinator.take() == ['POST /v1/job/job 1/cancel {"reason":""}']


async def test_a_stranger_on_the_port_is_recognised(coordinator: Coordinator):
    coordinator.page = Response("<html>hello</html>", media_type="text/html")
    async with client(coordinator) as fleet:
        with pytest.raises(BadAnswer, match="no readable JobPage"):
            await fleet.jobs()
        coordinator.page = Response("<html>no</html>", 502)
        with pytest.raises(Refused, match="may not be a coordinator"):
            await fleet.jobs()


async def test_nobody_on_the_port_is_unreachable():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))  # taken, but not listening: refuses every connection
        async with FleetClient(f"http://127.0.0.1:{listener.getsockname()[1]}", TOKEN) as fleet:
            with pytest.raises(Unreachable, match="No answer from http://127"):
                await fleet.health()
            with pytest.raises(Unreachable, match="No answer from http://127"):
                await anext(fleet.events())


async def test_events_arrive_in_order_and_go_on_by_cursor(coordinator: Coordinator):
    coordinator.frames = [
        a_snapshot(a_job(1), cursor=7),
        an_events_frame(an_event(8, "claimed", a_job(1)), an_event(9, "started", a_job(1))),
    ]
    async with client(coordinator) as fleet:
        assert [frame async for frame in fleet.events()] == coordinator.frames
        assert [frame async for frame in fleet.events(after=9)]
    assert coordinator.take() == ["WS /v1/events?", "WS /v1/events?after=9"]


async def test_a_log_is_read_by_offset(coordinator: Coordinator):
    coordinator.jobs, coordinator.log = [completed(1)], b"0123456789"
    async with client(coordinator) as fleet:
        chunk = await fleet.read_log("job 1", offset=4)
    assert (chunk.attempt, chunk.offset, chunk.data, chunk.length, chunk.open) == (
        ATTEMPT,
        4,
        b"456789",
        10,
        False,
    )


async def test_a_log_is_followed_from_start_to_end(coordinator: Coordinator):
    coordinator.jobs, coordinator.log = [completed(1)], b"0123456789"
    async with client(coordinator) as fleet:
        first, *pieces, last = [message async for message in fleet.follow_log("job 1", tail=3)]
    assert isinstance(first, LogStart)
    assert pieces == [b"0123", b"4567", b"89"]
    assert isinstance(last, LogEnd)
    assert coordinator.take() == ["WS /v1/job/job 1/log?tail=3"]


async def test_following_outlives_a_broken_connection_without_gap_or_repeat(coordinator: Coordinator):
    coordinator.jobs, coordinator.log, coordinator.sever_log_after = [completed(1)], bytes(range(40)), 18
    broken: list[str] = []
    async with client(coordinator) as fleet:
        heard = [piece async for piece in follow(fleet, "job 1", on_break=broken.append)]
    pieces = [piece for piece in heard if isinstance(piece, Piece)]
    assert b"".join(piece.data for piece in pieces) == coordinator.log
    assert [piece.offset for piece in pieces] == [
        sum(len(p.data) for p in pieces[:n]) for n in range(len(pieces))
    ]
    assert coordinator.take() == [
        "WS /v1/job/job 1/log?",
        f"WS /v1/job/job 1/log?offset=18&attempt={ATTEMPT}",
    ]
    assert len(broken) == 1
