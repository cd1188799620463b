"""The schema's history on PostgreSQL: up from nothing, down and up again with rows in it, nothing left to do."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import insert, inspect, select

from fleet_server.database import writing_engine
from fleet_server.schema import SchemaError, configuration, current, migrate, require_current
from fleet_server.tables import artifacts, metadata
from tests.postgres import Postgres
from tests.server.coordinator import FakeClock

ROW = {
    "sha256": "a" * 64,
    "size_bytes": 2**40,
    "model": "gbt",
    "mode": "realistic",
    "path": "models/x",
    "stored_at": FakeClock().now(),
}


@pytest.fixture
def url(postgres: Postgres) -> Iterator[str]:
    with postgres.database(empty=True) as found:
        yield found


def test_from_nothing_to_the_tables_and_nothing_left_to_do(url: str):
    head = migrate(url)
    assert current(url) == head
    engine = writing_engine(url)
    with engine.connect() as connection, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "autogenerate skipping metadata-specified expression-based index")
        warnings.filterwarnings("ignore", "Skipped unsupported reflection of expression-based index")
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_down_and_up_again_with_rows_in_it(url: str):
    head = migrate(url)
    engine = writing_engine(url)
    with engine.begin() as connection:
        connection.execute(insert(artifacts), ROW)
        assert connection.execute(select(artifacts)).mappings().one() == ROW
    engine.dispose()
    command.downgrade(configuration(url), "base")
    with (engine := writing_engine(url)).connect() as connection:
        assert inspect(connection).get_table_names() == ["alembic_version"]
    engine.dispose()
    assert migrate(url) == head


def test_a_shared_server_is_migrated_by_hand(url: str):
    with pytest.raises(SchemaError, match=r"The database is empty; .* Run: fleet-server migrate"):
        require_current(url)
    migrate(url)
    require_current(url)
