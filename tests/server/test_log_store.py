"""The one append rule and the tail: whatever is sent, in whatever order, the file is a prefix of the truth."""

from __future__ import annotations

import asyncio
import io
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_protocol.ids import AttemptId
from fleet_server.errors import LogDiverged, LogGap
from fleet_server.logs import reading
from fleet_server.logs.store import LogStore
from tests.server.coordinator import FakeClock

ATTEMPT = AttemptId("00000000-0000-4000-8000-000000000000")


@pytest.fixture
def store(tmp_path: Path) -> LogStore:
    return LogStore(tmp_path, FakeClock())


async def test_the_append_rule(store: LogStore):
    assert await store.append(ATTEMPT, 0, b"hello ") == 6
    assert await store.append(ATTEMPT, 6, b"world") == 11, "at the end"
    assert await store.append(ATTEMPT, 6, b"world") == 11, "a replay"
    assert await store.append(ATTEMPT, 0, b"hello") == 11, "a part of it"
    assert await store.append(ATTEMPT, 3, b"lo world!") == 12, "an overlap brings its rest"
    assert await store.append(ATTEMPT, 12, b"") == 12
    assert await store.append(ATTEMPT, 4, b"") == 12
    assert store.path(ATTEMPT).read_bytes() == b"hello world!"


async def test_a_gap_is_refused_with_the_durable_length(store: LogStore):
    await store.append(ATTEMPT, 0, b"abc")
    for data in (b"x", b""):
        with pytest.raises(LogGap) as error:
            await store.append(ATTEMPT, 4, data)
        assert error.value.current == {"durable": 3}
    assert store.path(ATTEMPT).read_bytes() == b"abc"


async def test_other_bytes_overwrite_nothing(store: LogStore):
    await store.append(ATTEMPT, 0, b"abc")
    for offset, data in ((0, b"xbcd"), (2, b"xyz"), (1, b"x")):
        with pytest.raises(LogDiverged):
            await store.append(ATTEMPT, offset, data)
    assert store.path(ATTEMPT).read_bytes() == b"abc"
    assert await store.durable(ATTEMPT) == 3


async def test_a_store_opened_anew_goes_on_where_the_file_ends(store: LogStore, tmp_path: Path):
    await store.append(ATTEMPT, 0, b"abc")
    again = LogStore(tmp_path, FakeClock())
    assert await again.durable(ATTEMPT) == 3
    assert await again.append(ATTEMPT, 2, b"cd") == 4


async def test_reading(store: LogStore):
    assert await store.read(ATTEMPT, 0, 10) == b""
    await store.append(ATTEMPT, 0, b"0123456789")
    parts = [await store.read(ATTEMPT, offset, 4) for offset in (0, 4, 8, 10, 99)]
    assert parts == [b"0123", b"4567", b"89", b"", b""]


async def test_who_waits_is_stirred_by_the_first_byte(store: LogStore):
    stirred = store.stirred(ATTEMPT)
    assert stirred is store.stirred(ATTEMPT)
    await store.append(ATTEMPT, 0, b"x")
    assert stirred.is_set()
    assert not store.stirred(ATTEMPT).is_set(), "for the next time"


@settings(deadline=None, max_examples=60)
@given(truth=st.binary(max_size=80), data=st.data())
def test_any_chunks_in_any_order_and_number_give_the_same_bytes(truth: bytes, data: st.DataObject):
    spans = st.tuples(st.integers(0, len(truth)), st.integers(0, len(truth))).map(sorted)
    sent = data.draw(st.lists(spans, max_size=12))

    async def send() -> None:
        with tempfile.TemporaryDirectory() as folder:
            store = LogStore(Path(folder), FakeClock())
            for start, end in sent:
                before = await store.durable(ATTEMPT)
                if start > before:
                    with pytest.raises(LogGap):
                        await store.append(ATTEMPT, start, truth[start:end])
                    assert await store.durable(ATTEMPT) == before
                else:
                    assert await store.append(ATTEMPT, start, truth[start:end]) == max(before, end)
                assert await store.read(ATTEMPT, 0, 1000) == truth[: await store.durable(ATTEMPT)]
            await store.append(ATTEMPT, 0, truth)
            assert await store.read(ATTEMPT, 0, 1000) == truth

    asyncio.run(send())


def _naive(log: bytes, lines: int) -> int:
    """Where the last `lines` lines begin; what comes after the last newline is a line too."""
    kept = io.BytesIO(log).readlines()
    return len(log) - sum(map(len, kept[max(0, len(kept) - lines) :]))


@settings(deadline=None, max_examples=100)
@given(
    log=st.lists(st.sampled_from([b"\n", b"a", b"bcd", b"\r", b"\n\n"]), max_size=30).map(b"".join),
    lines=st.integers(0, 12),
    block=st.integers(1, 9),
)
def test_the_tail_begins_where_a_naive_look_says(log: bytes, lines: int, block: int):
    async def look() -> int:
        with tempfile.TemporaryDirectory() as folder:
            store = LogStore(Path(folder), FakeClock())
            await store.append(ATTEMPT, 0, log)
            return await store.tail_offset(ATTEMPT, lines)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "SCAN_BYTES", block)  # so that small logs have many blocks
        assert asyncio.run(look()) == _naive(log, lines)
