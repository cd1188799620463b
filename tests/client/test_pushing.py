"""Data sets and sources on their way to a real coordinator: pushed once, gone on with, and never half there."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from fleet_client.client import FleetClient
from fleet_client.errors import Invalid, NotPermitted, Unavailable, Unreachable, Unreadable
from fleet_client.text import size
from fleet_protocol.archive import content_blocks, content_digest, content_size
from fleet_protocol.ids import Sha256
from fleet_server.schema import migrate
from tests.server.coordinator import OWN, Coordinator, FakeClock, running

TOML = (
    OWN
    + """[datasets.unused]
path = "unused"
"""
)
ROWS = os.urandom(5_000_000)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Coordinator]:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    migrate(f"sqlite:///{data / 'fleet.sqlite3'}")
    async with running(data, FakeClock()) as coordinator:
        yield coordinator


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "src" / "deep").mkdir(parents=True)
    (tmp_path / "src" / "train.py").write_text("print('hello')\n")
    (tmp_path / "src" / "deep" / "table.bin").write_bytes(ROWS[:2_000_000])
    (tmp_path / "rows").write_bytes(ROWS)
    (tmp_path / "unused").write_text("unused")
    (tmp_path / "m.toml").write_text(TOML)
    return tmp_path


@dataclass
class Line(httpx.AsyncBaseTransport):
    """A line that breaks after so many bytes of each PUT, so many times."""

    breaks_after: int = 0
    breaks: int = 0
    puts: list[str] = field(default_factory=list)
    _real: httpx.AsyncHTTPTransport = field(default_factory=httpx.AsyncHTTPTransport)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.method != "PUT":
            return await self._real.handle_async_request(request)
        self.puts.append(request.headers.get("content-range", "whole"))
        if self.breaks:
            self.breaks -= 1
            request.stream = _Cut(request.stream, self.breaks_after)  # type: ignore[arg-type]  # always asynchronous here
        return await self._real.handle_async_request(request)

    async def aclose(self) -> None:
        await self._real.aclose()


@dataclass
class _Cut(httpx.AsyncByteStream):
    whole: httpx.AsyncByteStream
    left: int

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for block in self.whole:
            yield block[: self.left]
            self.left -= len(block)
            if self.left <= 0:
                raise httpx.WriteError("cut")


def client(server: Coordinator, line: Line | None = None, role: str = "operator") -> FleetClient:
    token = (server.data / "tokens" / role).read_text().strip()
    return FleetClient(server.url, token, transport=line)


async def stored(server: Coordinator, sha256: str) -> bytes:
    return (await server.http("agent").get(f"/v1/blob/{sha256}")).content


@pytest.mark.parametrize("name", ["rows", "src", "unused"])
async def test_a_file_and_a_folder_arrive_as_what_names_them(server: Coordinator, folder: Path, name: str):
    path, told = folder / name, list[tuple[int, int]]()
    sha256, line = content_digest(path), Line()
    async with client(server, line) as fleet:
        await fleet.push(path, sha256, lambda done, total: told.append((done, total)))
        await fleet.push(path, sha256)
    assert len(await stored(server, sha256)) == content_size(path)
    assert line.puts == ["whole"], "the second time nothing is sent"
    assert told[0] == (0, content_size(path))
    assert told[-1] == (content_size(path), content_size(path))
    assert [done for done, _ in told] == sorted(done for done, _ in told)


async def test_an_empty_file_and_an_empty_folder(server: Coordinator, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "nothing").touch()
    async with client(server) as fleet:
        for name in ("empty", "nothing"):
            sha256 = content_digest(tmp_path / name)
            await fleet.push(tmp_path / name, sha256)
            assert len(await stored(server, sha256)) == content_size(tmp_path / name)


@pytest.mark.parametrize("name", ["rows", "src"])
async def test_a_broken_line_goes_on_where_it_broke(server: Coordinator, folder: Path, name: str):
    path, line = folder / name, Line(breaks_after=600_000, breaks=2)
    sha256 = content_digest(path)
    async with client(server, line) as fleet:
        await fleet.push(path, sha256)
    assert content_digest(server.data / "blobs" / sha256[:2] / sha256) == sha256
    assert len(line.puts) == 3
    assert all(put.startswith("bytes ") and not put.startswith("bytes 0-") for put in line.puts[1:])


async def test_a_line_that_carries_nothing_is_given_up_and_another_run_goes_on(
    server: Coordinator, folder: Path
):
    sha256, dead, good = content_digest(folder / "src"), Line(breaks_after=0, breaks=99), Line()
    (server.data / "uploads" / f"{sha256}.part").write_bytes(b"".join(content_blocks(folder / "src"))[:1000])
    async with client(server, dead) as fleet:
        with pytest.raises(Unreachable):
            await fleet.push(folder / "src", sha256)
    assert len(dead.puts) == 3
    async with client(server, good) as fleet:
        await fleet.push(folder / "src", sha256)
    assert good.puts == [f"bytes 1000-{content_size(folder / 'src') - 1}/{content_size(folder / 'src')}"]


async def test_a_file_that_is_not_what_its_name_says(server: Coordinator, folder: Path):
    before = content_digest(folder / "rows")
    (folder / "rows").write_bytes(ROWS[::-1])
    async with client(server) as fleet:
        with pytest.raises(Unreadable, match="changed while it was pushed"):
            await fleet.push(folder / "rows", before)
    assert (await server.http().head(f"/v1/blob/{before}")).status_code == 404
    assert list((server.data / "uploads").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "now"), [("deep/table.bin", b"short"), ("deep/table.bin", ROWS), ("new", b"1")]
)
async def test_a_folder_that_changes_while_it_is_pushed(
    server: Coordinator, folder: Path, name: str, now: bytes
):
    sha256 = content_digest(folder / "src")
    changed = False

    def change(done: int, total: int) -> None:
        nonlocal changed
        if not changed:
            changed = True
            (folder / "src" / name).write_bytes(now)

    async with client(server) as fleet:
        with pytest.raises(Unreadable):
            await fleet.push(folder / "src", sha256, change)
    assert (await server.http().get(f"/v1/blob/{sha256}")).status_code == 404


async def test_a_link_that_leads_outside(server: Coordinator, folder: Path):
    sha256 = content_digest(folder / "src")
    (folder / "src" / "passwd").symlink_to("/etc/passwd")
    async with client(server) as fleet:
        with pytest.raises(Unreadable, match="passwd is a link"):
            await fleet.push(folder / "src", sha256)


async def test_what_is_not_there(server: Coordinator, folder: Path):
    async with client(server) as fleet:
        with pytest.raises(Unreadable, match="nowhere"):
            await fleet.push(folder / "nowhere", Sha256("a" * 64))
        with pytest.raises(Invalid):
            await fleet.push(folder / "unused", Sha256("A" * 64))


async def test_only_who_may(server: Coordinator, folder: Path):
    async with client(server, role="viewer") as fleet:
        with pytest.raises(NotPermitted):
            await fleet.push(folder / "unused", content_digest(folder / "unused"))


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="only Linux has a device that is always full"
)
async def test_a_full_disk_is_told(server: Coordinator, folder: Path):
    sha256 = content_digest(folder / "rows")
    (server.data / "uploads" / f"{sha256}.part").symlink_to("/dev/full")
    async with client(server) as fleet:
        with pytest.raises(Unavailable, match="disk is full"):
            await fleet.push(folder / "rows", sha256)
        await fleet.push(folder / "rows", sha256)


async def test_two_that_push_the_same(server: Coordinator, folder: Path):
    sha256 = content_digest(folder / "rows")
    async with client(server) as one, client(server) as two:
        await asyncio.gather(*(fleet.push(folder / "rows", sha256) for fleet in (one, two)))
    assert content_digest(server.data / "blobs" / sha256[:2] / sha256) == sha256


# The commands


async def fleet(server: Coordinator, *arguments: str, **environment: str) -> tuple[int, str, str]:
    token = (server.data / "tokens" / "operator").read_text().strip()
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "fleet_client", *arguments),
        env={**os.environ, "FLEET_URL": server.url, "FLEET_TOKEN": token, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = await running.communicate()
    return running.returncode or 0, out.decode(), err.decode()


async def test_reload_pushes_what_jobs_are_made_of_and_only_that(server: Coordinator, folder: Path):
    manifest = str(folder / "m.toml")
    code, _, _ = await fleet(server, "plan", manifest)
    assert (code, await server.count("blobs")) == (0, 0), "a plan sends nothing"
    code, out, err = await fleet(server, "reload", manifest)
    assert (code, err) == (0, ""), "and nothing is said where nobody looks on"
    assert "was applied: 1 job queued" in out
    for name in ("rows", "src"):
        sha256 = content_digest(folder / name)
        assert content_digest(server.data / "blobs" / sha256[:2] / sha256) == sha256
    assert await server.count("blobs") == 2
    code, out, _ = await fleet(server, "reload", manifest)
    assert (code, "changes nothing" in out) == (0, True)


async def test_progress_is_shown_on_a_terminal(server: Coordinator, folder: Path):
    ours, theirs = pty.openpty()
    token = (server.data / "tokens" / "operator").read_text().strip()
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "fleet_client", "reload", str(folder / "m.toml")),
        env={**os.environ, "FLEET_URL": server.url, "FLEET_TOKEN": token, "TERM": "xterm", "COLUMNS": "100"},
        stdout=subprocess.PIPE,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    while running.returncode is None or shown == b"":
        try:
            shown += await asyncio.to_thread(os.read, ours, 65536)
        except OSError:  # the other side is closed
            break
    out, _ = await running.communicate()
    os.close(ours)
    assert b"rows" in shown
    assert b"src" in shown
    assert b"rows" not in out


async def test_a_manifest_whose_source_has_a_link(server: Coordinator, folder: Path):
    (folder / "src" / "out").symlink_to("/etc")
    code, _, err = await fleet(server, "reload", str(folder / "m.toml"))
    assert code == 1
    assert "out is a link" in err
    assert await server.count("blobs") == 0


async def test_prune_shows_and_then_deletes(server: Coordinator, folder: Path):
    code, out, _ = await fleet(server, "prune")
    assert (code, out) == (0, "Nothing is stored that nothing refers to.\n")
    async with client(server) as pushing:
        await pushing.push(folder / "rows", content_digest(folder / "rows"))
    server.clock.advance(7200)
    code, out, _ = await fleet(server, "prune")
    assert code == 0
    assert content_digest(folder / "rows") in out
    assert "1 thing, 4.8 MiB, would be deleted by: fleet prune --yes" in out
    assert json.loads((await fleet(server, "prune", "--json"))[1])["dry_run"] is True
    code, out, _ = await fleet(server, "prune", "--yes")
    assert (code, "1 thing, 4.8 MiB: deleted." in out) == (0, True)
    assert await server.count("blobs") == 0


def test_sizes():
    assert [size(count) for count in (0, 1023, 1024, 1536, 5 * 2**30, 3 * 2**40, 4000 * 2**40)] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "1.5 KiB",
        "5.0 GiB",
        "3.0 TiB",
        "4000.0 TiB",
    ]
