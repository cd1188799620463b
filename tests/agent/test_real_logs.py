"""Logs from a trainer's own write to a reader of the real coordinator: byte for byte, or declared."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from fleet_agent.disk import can_punch
from fleet_agent.log_patch import LogPatch
from fleet_agent.log_stream import LogStream
from fleet_agent.settings import Settings
from fleet_agent.spool import HEAD_BYTES, TAIL_BYTES, Spool
from fleet_agent.spools import SpoolDisk, Spools
from fleet_agent.uplink import Uplink
from fleet_protocol.logs import StreamHello
from tests.agent.conftest import QUICK
from tests.agent.test_real_coordinator import agent, eventually, fleet, until_job
from tests.server.coordinator import Coordinator, job, manifest

__all__ = ["fleet"]  # the fixture
Script = Callable[[str], str]

PRINTS_ANYTHING = """
import hashlib, random
said = hashlib.sha256()
def say(data):
    said.update(data)
    while data: data = data[os.write(1, data):]
say(b"x" * 10_000_000 + b"\\n")
say(bytes(300_000))
say(bytes(range(256)) * 2000)
for step in range(2000): say(b"\\r%3d%%|%s|" % (step // 20, b"#" * (step // 40)))
say(b"\\xff\\xfe\\xc3(\\xe2\\x28\\xa1 no text \\x1b[31m\\r\\n")
say(random.Random(1).randbytes(1_000_000))
pathlib.Path(os.environ["FLEET_OUTPUT_DIR"], "digest").write_text(said.hexdigest())
pathlib.Path(os.environ["FLEET_DATA"], "digest").write_text(said.hexdigest())
"""


async def read(fleet: Coordinator, path: str) -> tuple[bytes, list[str]]:
    """The whole log, part by part, and what the headers say of holes."""
    log, holes = b"", []
    while True:
        answer = await fleet.http().get(path, params={"offset": len(log)})
        assert answer.status_code == 200, answer.text
        if told := answer.headers.get("Fleet-Log-Holes"):
            holes += [part.strip() for part in told.split(",")]
        if not answer.content:
            return log, holes
        log += answer.content


async def test_whatever_a_trainer_prints_is_read_as_it_was_printed(
    fleet: Coordinator, trainer: Script, tmp_path: Path
) -> None:
    await fleet.load(manifest(job("only")))
    settings = Settings(name="box", state=tmp_path, python=trainer(PRINTS_ANYTHING), data=tmp_path)
    async with agent(fleet, settings):
        await until_job(fleet, "only", status="completed")
        printed = (tmp_path / "digest").read_text()

        async def is_there() -> bool:
            log, holes = await read(fleet, "/v1/job/only/log")
            assert holes == []
            return hashlib.sha256(log).hexdigest() == printed

        await eventually(is_there)


@pytest.mark.parametrize("by_websocket", [True, False])
async def test_bytes_that_an_agent_lost_are_holes_to_a_reader(
    fleet: Coordinator, tmp_path: Path, by_websocket: bool
) -> None:
    if not can_punch(tmp_path):
        pytest.skip("this file system cannot give parts of a file back")
    await fleet.load(manifest(job("only")))
    worker = await fleet.worker()
    held = await worker.take()
    token = (fleet.data / "tokens" / "agent").read_text().strip()
    data = random.Random(2).randbytes(5 << 20)
    (tmp_path / "log").write_bytes(data)
    Spool(held.attempt, tmp_path / "log").drop(HEAD_BYTES, len(data))
    uplink, spools = Uplink(fleet.url, lambda: token), Spools(SpoolDisk(tmp_path), QUICK)
    spool = spools.follow(held.attempt, tmp_path / "log")
    hello = StreamHello(worker=worker.id, incarnation=worker.id)
    stream = LogStream(uplink, hello, QUICK, spools, on_stop=lambda *_: None, on_wake=lambda: None)
    sending = asyncio.create_task(stream.run() if by_websocket else LogPatch(uplink, spools, QUICK).run())
    spools.close(spool)
    await spool.over.wait()
    sending.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await sending
    await uplink.close()
    log, holes = await read(fleet, f"/v1/attempt/{held.attempt}/log")
    begin, end = HEAD_BYTES, len(data) - TAIL_BYTES
    assert log == data[:begin] + bytes(end - begin) + data[end:]
    edges = [tuple(map(int, hole.split("-"))) for hole in holes]
    assert edges[0][0] == begin
    assert edges[-1][1] == end
