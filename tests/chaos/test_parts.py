"""The parts of a chaos run see what they are to see: an instrument that misses a fault proves nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from tests.chaos import sometimes
from tests.chaos.disk import SmallDisk
from tests.chaos.proxy import Link, Weather
from tests.chaos.schedule import WEIGHTS, schedule
from tests.chaos.trainer import BLOCK, block, ending, mistake
from tests.chaos.viewers import History, first_mistake
from tests.history import passed_over

ATTEMPTS = [f"{number:08d}-0000-4000-8000-000000000000" for number in range(12)]  # every form is among them


def printed(attempt: str, blocks: int = 5) -> bytes:
    return b"".join(block(attempt, number) for number in range(blocks)) + ending(attempt, blocks, 0)


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_any_part_of_a_log_can_be_checked_without_the_rest(attempt):
    log = printed(attempt)
    for start in range(0, len(log), 777):
        assert mistake(attempt, start, log[start : start + 9000]) is None


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_a_lost_a_doubled_a_changed_and_a_foreign_byte_are_seen(attempt):
    log = printed(attempt)
    at = BLOCK + 100
    assert mistake(attempt, 0, log[:at] + log[at + 1 :]) == BLOCK
    assert mistake(attempt, 0, log[:at] + log[at - 1 :]) == BLOCK
    assert mistake(attempt, 0, log[:at] + bytes([log[at] ^ 1]) + log[at + 1 :]) == BLOCK
    assert mistake(attempt, 0, log + b"more") == 5 * BLOCK
    assert mistake(attempt, 0, printed("0" * 36)) == 0


def test_only_what_is_declared_as_a_hole_may_be_missing():
    log = bytearray(printed(ATTEMPTS[0]))
    log[5000:9000] = bytes(4000)
    assert first_mistake(ATTEMPTS[0], 0, bytes(log), [(5000, 9000)]) is None
    assert first_mistake(ATTEMPTS[0], 0, bytes(log), [(5001, 9000)]) == BLOCK
    assert first_mistake(ATTEMPTS[0], 6000, bytes(log[6000:]), [(5000, 9000)]) is None


def test_a_schedule_is_its_seeds_and_has_every_fault():
    kinds = list(WEIGHTS)
    assert schedule(7, 3, 4, kinds) == schedule(7, 3, 4, kinds)
    assert schedule(7, 3, 4, kinds) != schedule(8, 3, 4, kinds)
    assert {fault.kind for fault in schedule(7, 3, 4, kinds)} == set(kinds)


def test_events_that_are_told_in_two_ways_are_seen():
    history = History()
    assert history.note(0, {"event": 1, "kind": "queued"}) is None
    assert history.note(1, {"event": 1, "kind": "queued"}) is None
    assert history.note(1, {"event": 1, "kind": "claimed"})
    assert [*history.complaints(1, [{"event": 1, "kind": "queued"}])] == []
    assert [*history.complaints(1, [{"event": 1, "kind": "claimed"}])] == ["events were told otherwise: [1]"]
    assert [*history.complaints(1, [])] == ["events were told and are none: [1]"]
    assert [*history.complaints(2, [])] == []  # the older database does not know it


ONE_AND_NINE = [{"event": 1}, {"event": 9}]


@pytest.mark.parametrize(
    ("history", "events", "complaint"),
    [
        (History(leaps={(1, 1, 9)}), ONE_AND_NINE, []),
        (History(leaps={(1, 1, 9)}), [*ONE_AND_NINE, {"event": 5}], ["events were passed over: [5]"]),
        (History(leaps={(1, 3, 9)}), ONE_AND_NINE, ["events were gone on from and are none: [3]"]),
        (History(leaps={(0, 3, 9)}), ONE_AND_NINE, []),
        (History(unknown={(1, 3)}), ONE_AND_NINE, []),
        (History(unknown={(1, 9)}), ONE_AND_NINE, ["events were called unknown: [9]"]),
    ],
)
def test_cursors_are_held_against_the_last_history(history, events, complaint):
    assert [*history.complaints(1, events)] == complaint


@pytest.mark.parametrize(
    ("ids", "wrong"),
    [
        ([(1, 3), (2, 3), (9_000_001, 11), (9_000_002, 11), (11_000_001, 11)], []),
        ([(1, 3), (3, 3)], [3]),
        ([(2, 3)], [2]),
        ([(1, 3), (1, 3)], [1]),
        ([(1, 3), (9_000_001, 11), (9_000_003, 12)], [9_000_003]),
        ([(1, 10), (9_000_001, 11)], [9_000_001]),
        ([(1, 3), (9_000_001, 8)], [9_000_001]),
    ],
)
def test_an_event_that_is_missing_within_one_life_of_a_coordinator_is_seen(ids, wrong):
    history = [(event, datetime.fromtimestamp(second, UTC)) for event, second in ids]
    assert [*passed_over(history)] == wrong


def test_journals_are_counted_whatever_else_is_printed(tmp_path):
    lines = '{"action": "attempt_adopted"}\nnoise\n{"action": "refused", "code": "stale_attempt"}\n{"action": "att'
    (tmp_path / "0-agent.out").write_text(lines)
    assert sometimes.from_journals(tmp_path) == {"adoption": 1, "stale start, completion or release": 1}


def test_a_cancel_and_a_completion_race_either_way():
    events = [{"kind": kind, "detail": None} for kind in ("started", "cancel_requested", "completed")]
    assert sometimes.from_history(events)["complete won against cancel"] == 1


def test_a_small_disk_gets_full_and_empty(tmp_path):
    disk = SmallDisk(tmp_path / "disk", 1)
    if not disk.works:
        pytest.skip("this account may not mount")
    try:
        (tmp_path / "disk" / "some").write_bytes(bytes(100_000))
        disk.fill()
        with pytest.raises(OSError, match="No space left"):
            (tmp_path / "disk" / "more").write_bytes(bytes(100_000))
        disk.make_room()
        (tmp_path / "disk" / "more").write_bytes(bytes(100_000))
    finally:
        disk.close(keep=True)
    assert (tmp_path / "disk" / "some").stat().st_size == 100_000


class Echo:
    """Stands for a coordinator: answers each line with an acknowledgement."""

    ACK = b'{"type":"ack","attempt":"%s","durable":42}' % ATTEMPTS[0].encode()

    def __init__(self) -> None:
        self.heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            self.heard.put_nowait(line)
            writer.write(self.ACK + b"\n")
        writer.close()


@pytest.fixture
async def line() -> AsyncIterator[tuple[Echo, Link]]:
    echo = Echo()
    async with await asyncio.start_server(echo.serve, "127.0.0.1", 0) as server:
        link = Link(server.sockets[0].getsockname()[1])
        await link.open()
        yield echo, link
        link.close()


async def test_the_proxy_carries_and_listens_along(line):
    _, link = line
    reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
    writer.write(b"hello\n")
    assert await reader.readline() == Echo.ACK + b"\n"
    assert link.acknowledged == {ATTEMPTS[0]: 42}
    link.cut()
    with pytest.raises(ConnectionError):
        await reader.read()
    writer.close()


async def test_what_is_said_to_the_deaf_arrives_and_is_not_answered(line):
    echo, link = line
    reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
    link.become(Weather.DEAF)
    writer.write(b"hello\n")
    assert await echo.heard.get() == b"hello\n"
    link.become(Weather.CLEAR)  # and the line breaks
    with pytest.raises(ConnectionError):
        await reader.read()
    assert link.acknowledged == {}
    writer.close()


@pytest.mark.parametrize("weather", [Weather.REFUSING, Weather.NO_WEBSOCKET])
async def test_a_refused_line_ends_without_a_word(line, weather):
    echo, link = line
    link.become(weather)
    reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
    writer.write(b"GET /v1/worker/stream HTTP/1.1\r\n")
    assert await reader.read() == b""
    assert echo.heard.empty()
    writer.close()
