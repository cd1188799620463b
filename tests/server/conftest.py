from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from fleet_server.schema import migrate
from tests.postgres import Postgres
from tests.server.coordinator import Coordinator, FakeClock, running


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database at the newest revision, made once and copied for each test."""
    path = tmp_path_factory.mktemp("database") / "fleet.sqlite3"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(autouse=True)
def own_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test sees the settings or the coordinators of the account that runs it."""
    for name in ("FLEET_TOKEN", "FLEET_URL", "FLEET_SERVER_DATA", "FLEET_SERVER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FLEET_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)  # whoever runs the tests may have a manifest where they stand


@pytest.fixture(params=["sqlite", "postgres"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Every test that opens a coordinator runs on both engines."""
    if request.param == "sqlite":
        yield "sqlite"
        return
    postgres: Postgres = request.getfixturevalue("postgres")
    with postgres.database() as url:
        monkeypatch.setenv("FLEET_SERVER_DATABASE_URL", url)
        yield "postgres"


@pytest.fixture
def data(tmp_path: Path, empty_database: Path, engine: str) -> Path:
    """A data folder; its database is empty."""
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    if engine == "sqlite":
        shutil.copy(empty_database, folder / "fleet.sqlite3")
    return folder


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def fleet(data: Path, clock: FakeClock) -> AsyncIterator[Coordinator]:
    async with running(data, clock) as coordinator:
        yield coordinator
