"""Artifacts fetched from a real coordinator, and proved without it."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from backports.zstd import ZstdFile

from fleet_client.artifacts import certificate_of, evaluation_in, fetch, file_name, unpack, verify
from fleet_client.cli import main
from fleet_client.client import FleetClient
from fleet_client.errors import Unreadable
from fleet_protocol.archive import write_archive
from fleet_protocol.artifacts import Certificate
from fleet_server.schema import migrate
from tests.server.coordinator import Coordinator, FakeClock, job, manifest, running

METRICS = {"metrics": {}, "confusion": [[3, 1], [0, 4]], "classes": {"a": {"f1": 0.9}, "b": {"f1": 0.8}}}


def bundle(folder: Path) -> bytes:
    folder.mkdir()
    (folder / "metrics.json").write_text(json.dumps(METRICS))
    (folder / "model.txt").write_text("weights " * 9000)
    packed = io.BytesIO()
    with ZstdFile(packed, "w", level=3) as sink:
        write_archive(folder, sink)
    return packed.getvalue()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Coordinator]:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    migrate(f"sqlite:///{data / 'fleet.sqlite3'}")
    async with running(data, FakeClock()) as coordinator:
        yield coordinator


async def test_fetched_in_two_goes_unpacked_and_proved(
    server: Coordinator, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    data = bundle(tmp_path / "made")
    await server.load(manifest(job("first")))
    worker = await server.worker()
    await worker.finish(await worker.take(), data, provenance={"trainer": "1.2", "git_commit": "abc"})
    token = (server.data / "tokens/viewer").read_text().strip()
    async with FleetClient(server.url, token) as fleet:
        (artifact,) = (await fleet.artifacts()).models
        target = tmp_path / file_name(artifact)
        part = target.with_name(f"{target.name}.part")
        part.write_bytes(data[:20])
        told: list[tuple[int, int]] = []
        await fetch(fleet, artifact, target, lambda done, total: told.append((done, total)))
        assert target.read_bytes() == data
        assert (told[0], told[-1]) == ((20, len(data)), (len(data), len(data)))
        detail = await fleet.job("first")
        target.unlink()
        part.write_bytes(b"x" * 20)
        with pytest.raises(Unreadable, match="not what was asked for"):
            await fetch(fleet, artifact, target, lambda done, total: None)
        assert not part.exists()
        assert not target.exists()
        target.write_bytes(data)
    proved(target, Certificate(fleet="f", artifact=artifact, spec=detail.spec))
    (kept,) = server.data.glob("models/*/*/bundle.tar.zst")
    assert [one["job"] for one in verify(kept).uploads] == ["first"]
    with pytest.raises(SystemExit):
        main(["artifacts", "verify", str(kept), "--json"])
    assert json.loads(capfd.readouterr().out)["ok"]


def proved(target: Path, certificate: Certificate) -> None:
    beside = certificate_of(target)
    beside.write_text(certificate.model_dump_json())
    found = verify(target)
    assert (found.problems, [one.name for one in found.files]) == ((), ["metrics.json", "model.txt"])
    assert certificate.artifact.provenance == {"trainer": "1.2", "git_commit": "abc"}
    unpack(target, target.parent / "copy")
    assert (target.parent / "copy/model.txt").read_text() == "weights " * 9000
    with pytest.raises(Unreadable, match="there already"):
        unpack(target, target.parent / "copy")
    beside.write_text(certificate.model_dump_json().replace('"seed":0', '"seed":1'))
    assert "was changed" in verify(target).problems[0]
    beside.write_text(certificate.model_dump_json())
    target.write_bytes(target.read_bytes()[:-9])
    assert [problem.split(":")[0] for problem in verify(target).problems] == [
        "it is no artifact",
        f"its SHA-256 is {verify(target).sha256}, and {certificate.artifact.sha256} was expected",
    ]


def test_the_evaluation_is_read_from_a_bundles_beginning(tmp_path: Path):
    data = bundle(tmp_path / "made")
    found = evaluation_in(data)
    assert found is not None
    assert found.confusion == ((3, 1), (0, 4))
    for other in (b"", b"nothing of ours", data[:30]):
        assert evaluation_in(other) is None
