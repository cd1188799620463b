from __future__ import annotations

import asyncio
import io
import os
import random
import tarfile
from collections import namedtuple
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fleet_agent.blobs import BlobCache, Unobtainable
from fleet_agent.uplink import Uplink
from fleet_protocol.archive import content_digest, write_archive
from fleet_protocol.ids import Sha256
from tests.agent.coordinator import TOKEN, Coordinator

SIZE = 600_000


def data(seed: int) -> bytes:
    return random.Random(seed).randbytes(SIZE)


def quiet(_done: int, _total: int) -> None:
    pass


class Cached:
    """A cache for three blobs and a bit."""

    def __init__(self, coordinator: Coordinator, uplink: Uplink, folder: Path) -> None:
        self.coordinator = coordinator
        self.folder = folder
        self.in_use: set[str] = set()
        self.folder.mkdir()
        self.uplink = uplink
        self.cache = self.anew()

    def anew(self, cap: float = 3.5 * SIZE) -> BlobCache:
        """As after a restart of the agent."""
        self.cache = BlobCache(self.folder, cap, self.uplink, lambda: self.in_use)
        return self.cache

    async def file(self, sha256: Sha256) -> bytes:
        path = await self.cache.file(sha256, quiet)
        os.utime(path, (self.now, self.now))
        return path.read_bytes()

    now = 0
    """When whatever is used is used; files' own times are too coarse."""

    async def fill(self, *seeds: int) -> list[Sha256]:
        names = []
        for seed in seeds:
            self.now += 1
            names.append(self.coordinator.hold(data(seed)))
            await self.file(names[-1])
        return names


@pytest.fixture
async def cached(coordinator: Coordinator, tmp_path: Path) -> AsyncIterator[Cached]:
    uplink = Uplink(coordinator.url, lambda: TOKEN, retry_ceiling=0.05)
    yield Cached(coordinator, uplink, tmp_path / "state")
    await uplink.close()


async def test_a_blob_is_pulled_once_and_kept(cached: Cached, coordinator: Coordinator) -> None:
    sha = coordinator.hold(data(1))
    for _ in range(2):
        assert await cached.file(sha) == data(1)
        cached.anew()
    assert coordinator.blob_ranges == [None]
    assert cached.cache.holds() == (sha,)


async def test_two_that_want_the_same_pull_it_once(cached: Cached, coordinator: Coordinator) -> None:
    sha = coordinator.hold(data(1))
    coordinator.blob_gate.clear()
    both = asyncio.gather(cached.file(sha), cached.file(sha))
    await coordinator.until(lambda: len(coordinator.blob_ranges) == 1)
    coordinator.blob_gate.set()
    assert list(await both) == [data(1)] * 2
    assert coordinator.blob_ranges == [None]


async def test_who_gives_up_leaves_the_rest_to_the_next(cached: Cached, coordinator: Coordinator) -> None:
    """Also one that waits already; and what has come is not asked for again."""
    sha = coordinator.hold(data(1))
    coordinator.blob_gate.clear()
    first, second = (asyncio.create_task(cached.file(sha)) for _ in range(2))
    part = cached.folder / "blobs" / f"{sha}.part"
    while not (part.exists() and part.stat().st_size):  # noqa: ASYNC110 - nothing tells of a file's growth
        await asyncio.sleep(0.01)
    first.cancel()
    await asyncio.wait([first])
    coordinator.blob_gate.set()
    assert await second == data(1)
    assert coordinator.blob_ranges[0] is None
    assert str(coordinator.blob_ranges[1]).startswith("bytes=")


async def test_a_cut_line_and_a_restarted_agent_go_on_where_it_ended(
    cached: Cached, coordinator: Coordinator
) -> None:
    sha = coordinator.hold(data(1))
    part = cached.folder / "blobs" / f"{sha}.part"
    part.write_bytes(data(1)[:30_000])
    cached.anew()
    assert cached.cache.holds() == ()
    coordinator.cut_blob_at = 60_000
    assert await cached.file(sha) == data(1)
    assert coordinator.blob_ranges[0] == "bytes=30000-"
    assert len(coordinator.blob_ranges) == 2


async def test_damaged_bytes_are_dropped_and_pulled_again_once(
    cached: Cached, coordinator: Coordinator
) -> None:
    sha = coordinator.hold(data(1))
    (cached.folder / "blobs" / f"{sha}.part").write_bytes(b"x" * 30_000)
    assert await cached.file(sha) == data(1)
    assert coordinator.blob_ranges == ["bytes=30000-", None]


async def test_bytes_that_stay_wrong_are_never_visible(cached: Cached, coordinator: Coordinator) -> None:
    sha = coordinator.hold(data(1))
    coordinator.blobs[sha] = data(2)
    with pytest.raises(Unobtainable, match="damaged 2 times"):
        await cached.file(sha)
    assert coordinator.blob_ranges == [None, None]
    assert not list((cached.folder / "blobs").iterdir())


async def test_a_blob_that_nobody_has_is_said(cached: Cached) -> None:
    with pytest.raises(Unobtainable, match="does not give it: no such blob"):
        await cached.file(Sha256("0" * 64))


async def test_what_was_not_used_for_longest_makes_room(cached: Cached) -> None:
    first, second, third = await cached.fill(1, 2, 3)
    cached.now += 1
    await cached.file(first)
    (fourth,) = await cached.fill(4)
    assert {*cached.cache.holds()} == {first, third, fourth}
    assert second not in cached.cache.holds()


async def test_what_is_in_use_stays_even_past_the_cap(cached: Cached) -> None:
    names = await cached.fill(1, 2, 3)
    cached.in_use = {*names}
    (fourth,) = await cached.fill(4)
    assert {*cached.cache.holds()} == {*names, fourth}
    cached.in_use = {names[0]}
    (fifth,) = await cached.fill(5)
    assert {*cached.cache.holds()} == {names[0], fourth, fifth}


async def test_what_could_never_fit_is_refused_with_advice(cached: Cached, coordinator: Coordinator) -> None:
    names = await cached.fill(1, 2)
    sha = coordinator.hold(data(3) * 4)
    with pytest.raises(Unobtainable, match="--cache-gib"):
        await cached.file(sha)
    assert {*cached.cache.holds()} == {*names}
    await cached.cache.pass_on(sha, cached.folder / "checkpoint", quiet)
    assert (cached.folder / "checkpoint").read_bytes() == data(3) * 4


async def test_a_full_disk_drops_what_nobody_uses_and_then_says_so(
    cached: Cached, coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    used, _ = await cached.fill(1, 2)
    cached.in_use = {used}
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(40 * SIZE, 0, 1.5 * SIZE))
    sha = coordinator.hold(data(3))
    with pytest.raises(OSError, match="too little room"):
        await cached.file(sha)
    assert cached.cache.holds() == (used,)
    assert [path.name for path in (cached.folder / "blobs").iterdir()] == [used]


def archive(folder: Path, *names: str) -> bytes:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    packed = io.BytesIO()
    write_archive(folder, packed)
    return packed.getvalue()


async def test_a_folder_is_unpacked_once_and_cannot_be_written(
    cached: Cached, coordinator: Coordinator, tmp_path: Path
) -> None:
    sha = coordinator.hold(archive(tmp_path / "source", "a", "b/c"))
    for _ in range(2):
        found = await cached.cache.content(sha, quiet)
        assert content_digest(found) == sha
        assert not (found / "b" / "c").stat().st_mode & 0o222
        cached.anew()
    assert coordinator.blob_ranges == [None]
    assert cached.cache.holds() == (sha,)
    assert not list((cached.folder / "blobs").iterdir())


async def test_a_folder_makes_room_as_a_file_does(
    cached: Cached, coordinator: Coordinator, tmp_path: Path
) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "big").write_bytes(data(9))
    sha = coordinator.hold(archive(tmp_path / "source"))
    folder = await cached.cache.content(sha, quiet)
    os.utime(folder, (0, 0))
    await cached.fill(1, 2, 3)
    assert sha not in cached.cache.holds()
    assert not list((cached.folder / "datasets").iterdir())


@pytest.mark.parametrize("hostile", [True, False])
async def test_a_file_stays_a_file_even_where_it_is_somebodys_archive(
    cached: Cached, coordinator: Coordinator, tmp_path: Path, hostile: bool
) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("../../escaped" if hostile else "theirs"))
    sha = coordinator.hold(packed.getvalue() if hostile else data(1))
    found = await cached.cache.content(sha, quiet)
    assert found.is_file()
    assert content_digest(found) == sha
    assert not list((cached.folder / "datasets").iterdir())
    assert {path.name for path in cached.folder.parent.iterdir()} == {"state"}


async def test_a_half_unpacked_folder_of_a_dead_agent_is_nobodys(
    cached: Cached, coordinator: Coordinator
) -> None:
    torn = cached.folder / "datasets" / "1234.tmp"
    (torn / "a").mkdir(parents=True)
    cached.anew()
    assert not torn.exists()
    assert cached.cache.holds() == ()


async def test_using_something_makes_it_the_last_to_go(
    cached: Cached, coordinator: Coordinator, tmp_path: Path
) -> None:
    for sha, use in (
        (coordinator.hold(data(1)), cached.cache.file),
        (coordinator.hold(archive(tmp_path / "source", "a")), cached.cache.content),
    ):
        found = await use(sha, quiet)
        os.utime(found, (0, 0))
        await use(sha, quiet)
        assert found.stat().st_mtime > 0


async def test_a_file_cannot_be_written_by_its_readers(cached: Cached, coordinator: Coordinator) -> None:
    found = await cached.cache.content(coordinator.hold(data(1)), quiet)
    assert not found.stat().st_mode & 0o222
