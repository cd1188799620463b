from __future__ import annotations

from collections.abc import Iterator

import pytest

from fleet_server.schema import migrate
from tests.postgres import Postgres
from tests.properties.inline import Backup, Stage
from tests.properties.seeded import furnish


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A coordinator's parts over an empty database of each engine."""
    folder = tmp_path_factory.mktemp("stage")
    if request.param == "sqlite":
        empty = folder / "empty.sqlite3"
        migrate(f"sqlite:///{empty}")
        found = Stage("sqlite://", folder, empty)
        yield found
        found.close()
        return
    postgres: Postgres = request.getfixturevalue("postgres")
    with postgres.database() as url:
        found = Stage(url, folder)
        yield found
        found.close()


@pytest.fixture(scope="module")
def beginning(stage: Stage) -> Backup:
    return furnish(stage)
