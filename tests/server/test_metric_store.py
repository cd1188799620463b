"""Points on disk: each once, in order, whatever is sent again, and whatever a crash leaves behind."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_protocol.ids import AttemptId
from fleet_protocol.metrics import MAX_READ_POINTS, MAX_SERIES, Point
from fleet_server.errors import MetricsGap, StorageFull, TooManySeries
from fleet_server.metrics import store as store_module
from fleet_server.metrics.store import MetricStore

ATTEMPT = AttemptId("00000000-0000-4000-8000-000000000000")


def point(step: int, name: str = "loss", value: float | None = 0.5) -> Point:
    return Point(name=name, step=step, value=value, at=1000.0 + step)


def points(*steps: int) -> list[Point]:
    return [point(step) for step in steps]


@pytest.fixture
def store(tmp_path: Path) -> MetricStore:
    return MetricStore(tmp_path)


async def steps(store: MetricStore, limit: int = 1000) -> list[int]:
    curves, stored = await store.read(ATTEMPT, limit)
    kept = [step for curve in curves.values() for step, _, _ in curve]
    assert stored >= len(kept)
    return kept


async def test_the_append_rule(store: MetricStore):
    assert await store.append(ATTEMPT, 0, points(0, 1, 2)) == 3
    assert await store.append(ATTEMPT, 3, points(3)) == 4, "at the end"
    assert await store.append(ATTEMPT, 3, points(3)) == 4, "a replay"
    assert await store.append(ATTEMPT, 0, points(0)) == 4, "a part of it"
    assert await store.append(ATTEMPT, 2, points(2, 3, 4)) == 5, "an overlap brings its rest"
    assert await store.append(ATTEMPT, 0, []) == 5, "a question"
    with pytest.raises(MetricsGap) as gap:
        await store.append(ATTEMPT, 6, points(6))
    assert gap.value.current == {"next": 5}
    assert await steps(store) == [0, 1, 2, 3, 4]
    assert store.counts == {ATTEMPT: 5}


async def test_nothing_told_is_no_curve(store: MetricStore):
    assert await store.read(ATTEMPT, 10) == ({}, 0)
    assert not store.path(ATTEMPT).exists()


async def test_values_names_and_times_come_back(store: MetricStore):
    told = [point(1, 'Verlust „µ“ \\ "x"', None), point(-5, "b", 1e300), point(2, "b", 0.1 + 0.2)]
    await store.append(ATTEMPT, 0, told)
    curves, stored = await MetricStore(store.path(ATTEMPT).parents[1]).read(ATTEMPT, 10)
    assert stored == 3
    assert curves == {told[0].name: ((1, None, 1001.0),), "b": ((-5, 1e300, 995.0), (2, 0.1 + 0.2, 1002.0))}


@pytest.mark.parametrize("torn", [b"{", b'{"name":"loss","step":2,"value":0.5,"at":1002.0}', b"\xff" * 3000])
async def test_a_torn_end_is_cut_off_when_the_file_is_first_touched(
    store: MetricStore, tmp_path: Path, torn: bytes
):
    await store.append(ATTEMPT, 0, points(0, 1))
    with store.path(ATTEMPT).open("ab") as file:
        file.write(torn)
    again = MetricStore(tmp_path)
    assert await again.append(ATTEMPT, 2, points(2)) == 3
    assert await steps(again) == [0, 1, 2]
    lines = again.path(ATTEMPT).read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 1, 2]


async def test_a_damaged_line_costs_itself_only(store: MetricStore, tmp_path: Path):
    await store.append(ATTEMPT, 0, points(0, 1, 2))
    path = store.path(ATTEMPT)
    path.write_bytes(path.read_bytes().replace(b'"step":1', b'"st\xff\xff":', 1))
    assert await steps(MetricStore(tmp_path)) == [0, 2]


async def test_too_many_names_are_refused_whole(store: MetricStore, tmp_path: Path):
    await store.append(ATTEMPT, 0, [point(0, f"sample {number}") for number in range(MAX_SERIES - 1)])
    with pytest.raises(TooManySeries):
        await store.append(ATTEMPT, MAX_SERIES - 1, [point(0, "one more"), point(0, "and another")])
    again = MetricStore(tmp_path)  # which has to know the names that are there
    assert (
        await again.append(ATTEMPT, MAX_SERIES - 1, [point(0, "one more"), point(1, "sample 7")])
        == MAX_SERIES + 1
    )
    with pytest.raises(TooManySeries):
        await again.append(ATTEMPT, MAX_SERIES + 1, [point(0, "and another")])


async def test_many_curves_are_read_shorter(store: MetricStore):
    await store.append(ATTEMPT, 0, [point(step, f"curve {n}") for n in range(500) for step in range(250)])
    curves, stored = await store.read(ATTEMPT, 1000)
    assert stored == 125_000
    assert sum(map(len, curves.values())) <= MAX_READ_POINTS
    assert {(curve[0][0], curve[-1][0]) for curve in curves.values()} == {(0, 249)}


async def test_a_full_disk_takes_none(store: MetricStore, monkeypatch: pytest.MonkeyPatch):
    await store.append(ATTEMPT, 0, points(0))
    before = store.path(ATTEMPT).read_bytes()
    write = os.pwrite

    def half(descriptor: int, data: bytes, offset: int) -> int:
        write(descriptor, data[:7], offset)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", half)
        with pytest.raises(StorageFull):
            await store.append(ATTEMPT, 1, points(1))
    assert store.path(ATTEMPT).read_bytes() == before
    assert await store.append(ATTEMPT, 1, points(1)) == 2


async def test_who_looks_again_reads_only_what_is_new(store: MetricStore, monkeypatch: pytest.MonkeyPatch):
    read: list[int] = []
    blocks = store_module._blocks

    def counted(path: Path, offset: int, end: int):
        read.append(end - offset)
        return blocks(path, offset, end)

    await store.append(ATTEMPT, 0, points(*range(100)))
    monkeypatch.setattr(store_module, "_blocks", counted)
    assert await steps(store) == list(range(100))
    await store.append(ATTEMPT, 100, points(100))
    assert await steps(store) == list(range(101))
    assert read[1] < read[0] / 50
    assert await steps(store, 8) != list(range(101)), "another length is another reading"


async def test_counts_of_many_attempts_do_not_pile_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(store_module, "REMEMBERED", 3)
    store = MetricStore(tmp_path)
    ids = [AttemptId(f"{number:08x}-0000-4000-8000-000000000000") for number in range(10)]
    for attempt in ids:
        await store.append(attempt, 0, points(0))
    assert len(store._series) == 3
    assert await store.append(ids[0], 1, points(1)) == 2


@settings(deadline=None, max_examples=60)
@given(data=st.data(), length=st.integers(0, 30))
def test_any_batches_in_any_order_and_number_give_the_same_points(data: st.DataObject, length: int):
    truth = points(*range(length))
    spans = st.tuples(st.integers(0, length), st.integers(0, length)).map(sorted)
    sent = data.draw(st.lists(spans, max_size=12))

    async def send() -> None:
        with tempfile.TemporaryDirectory() as folder:
            store, count = MetricStore(Path(folder)), 0
            for start, end in sent:
                if start > count:
                    with pytest.raises(MetricsGap):
                        await store.append(ATTEMPT, start, truth[start:end])
                else:
                    count = max(count, end)
                    assert await store.append(ATTEMPT, start, truth[start:end]) == count
                assert await steps(store) == list(range(count))

    asyncio.run(send())


async def test_at_once_is_as_one_after_the_other(store: MetricStore):
    await asyncio.gather(*(store.append(ATTEMPT, 0, points(*range(number))) for number in range(20)))
    assert await steps(store) == list(range(19))
