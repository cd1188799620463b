"""The database is copied while it is written to, and put back whole or not at all."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fleet_server.activity import FolderInUse, hold_folder
from fleet_server.backup import Unsound, back_up, restore, verify
from fleet_server.schema import SchemaError, migrate
from tests.server.coordinator import FakeClock, job, jobs, manifest, running

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A coordinator's data folder, on SQLite."""
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    migrate(url_of(data))
    return data


def url_of(data: Path) -> str:
    return f"sqlite:///{data / 'fleet.sqlite3'}"


async def test_a_backup_of_a_running_coordinator_is_put_back_and_goes_on(folder: Path) -> None:
    clock = FakeClock()
    async with running(folder, clock, database_url=url_of(folder)) as fleet:
        await fleet.load(manifest(*jobs(2)))
        worker = await fleet.worker()
        await worker.finish(await worker.take())
        copy = back_up(url_of(folder), folder, None, NOW)
        await fleet.load(manifest(job("later", seed=9)))

    assert copy == folder / "backups" / "fleet-20260504T120000Z.sqlite3"
    assert copy.stat().st_mode & 0o777 == 0o600
    assert verify(copy, folder, digests=True) == verify(copy, folder, digests=False)
    assert (verify(copy, folder, digests=True).jobs, verify(copy, folder, digests=True).wrong) == (2, ())

    whole = copy.read_bytes()
    aside = restore(copy, url_of(folder), folder, NOW)
    assert aside is not None
    assert copy.read_bytes() == whole
    assert verify(aside, folder, digests=False).jobs == 3
    async with running(folder, clock, database_url=url_of(folder)) as fleet:
        told = (await fleet.get("/v1/jobs"))["jobs"]
        assert sorted(one["status"] for one in told) == ["completed", "pending"]


async def test_what_the_database_refers_to_is_looked_at(folder: Path) -> None:
    async with running(folder, FakeClock(), database_url=url_of(folder)) as fleet:
        await fleet.load(manifest(*jobs(1)))
        worker = await fleet.worker()
        await worker.finish(await worker.take(), b"weights")
    (bundle,) = (folder / "models").rglob("bundle.tar.zst")
    database = folder / "fleet.sqlite3"
    for content, digests, wrong in (
        (b"weights", True, None),
        (b"WEIGHTS", False, None),
        (b"WEIGHTS", True, "damaged"),
        (b"weight", False, "has 6 bytes, not 7"),
        (None, False, "is missing"),
    ):
        bundle.unlink()
        if content is not None:
            bundle.write_bytes(content)
        found = verify(database, folder, digests=digests).wrong
        assert len(found) == (wrong is not None)
        assert wrong is None or wrong in found[0]
        bundle.touch()


@pytest.mark.parametrize("harm", ["cut", "torn", "another", "newer", "none"])
def test_what_is_no_sound_backup_changes_nothing(folder: Path, tmp_path: Path, harm: str) -> None:
    before = (folder / "fleet.sqlite3").read_bytes()
    file = back_up(url_of(folder), folder, tmp_path / "copy", NOW)
    if harm == "cut":
        file.write_bytes(file.read_bytes()[:5000])
    elif harm == "torn":
        file.write_bytes(file.read_bytes().replace(b"CREATE TABLE jobs", b"CREATE TABLE jxbs"))
    elif harm == "newer":
        connection = sqlite3.connect(file)
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
        connection.close()
    elif harm == "another":
        file.unlink()
        connection = sqlite3.connect(file)
        connection.execute("CREATE TABLE songs (name)")
        connection.close()
    else:
        file.unlink()
    with pytest.raises((Unsound, SchemaError)):
        restore(file, url_of(folder), folder, NOW)
    assert (folder / "fleet.sqlite3").read_bytes() == before
    assert not list(folder.glob("*.draft"))


def test_a_running_coordinator_keeps_its_database(folder: Path, tmp_path: Path) -> None:
    file = back_up(url_of(folder), folder, tmp_path / "copy", NOW)
    with hold_folder(folder), pytest.raises(FolderInUse, match="another coordinator"):
        restore(file, url_of(folder), folder, NOW)


def test_what_cannot_be_copied_is_told_and_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    (folder / "fleet.sqlite3").write_bytes(b"no database " * 99)
    with pytest.raises(SchemaError, match=r"cannot be copied to .*: file is not a database"):
        back_up(url_of(folder), folder, tmp_path / "copies" / "one", NOW)
    assert not list((tmp_path / "copies").iterdir())


def test_nothing_is_written_over_and_a_server_has_its_own_tools(folder: Path, tmp_path: Path) -> None:
    file = back_up(url_of(folder), folder, tmp_path / "copy", NOW)
    with pytest.raises(Unsound, match="already"):
        back_up(url_of(folder), folder, file, NOW)
    with pytest.raises(Unsound, match="pg_dump"):
        back_up("postgresql+psycopg://host/fleet", folder, None, NOW)
    with pytest.raises(Unsound, match="no database"):
        back_up(url_of(tmp_path / "nowhere"), folder, None, NOW)
