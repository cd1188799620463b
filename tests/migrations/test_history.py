"""The schema's history leads from nothing to the tables of the server, and back, with rows in it."""

from __future__ import annotations

import sqlite3
import warnings
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from fleet_server.database import writing_engine
from fleet_server.schema import SchemaError, back_up, configuration, current, migrate
from fleet_server.tables import metadata

ROWS = {
    "artifacts": ("a" * 64, 5, "gbt", "realistic", "models/x", "2026-01-01 00:00:00.000000"),
    "events": (1, "2026-01-01 00:00:00.000000", "queued", "operator", None, "j" * 16, None, "{}"),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "fleet.sqlite3"


@pytest.fixture
def url(file: Path) -> str:
    return f"sqlite:///{file}"


def _tables(file: Path) -> set[str]:
    with closing(sqlite3.connect(file)) as connection:
        rows = connection.execute("select name from sqlite_master where type = 'table'").fetchall()
    return {name for (name,) in rows}


def _fill(file: Path) -> None:
    """One row in each table that refers to no other."""
    with closing(sqlite3.connect(file)) as connection, connection:
        for table, row in ROWS.items():
            connection.execute(f"insert into {table} values ({', '.join('?' * len(row))})", row)


def test_from_nothing_to_the_tables(file: Path, url: str):
    head = migrate(url)
    assert current(url) == head
    assert _tables(file) == metadata.tables.keys() | {"alembic_version"}


def test_nothing_is_left_to_migrate(url: str):
    migrate(url)
    engine = writing_engine(url)
    with engine.connect() as connection, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "autogenerate skipping metadata-specified expression-based index")
        warnings.filterwarnings("ignore", "Skipped unsupported reflection of expression-based index")
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_the_index_of_the_queue_is_the_one_of_the_tables(file: Path, url: str):
    """Indices over expressions are beyond what Alembic compares."""
    migrate(url)
    other = file.with_name("tables.sqlite3")
    engine = writing_engine(f"sqlite:///{other}")
    metadata.create_all(engine)
    engine.dispose()

    def indices(path: Path) -> dict[str, str]:
        with closing(sqlite3.connect(path)) as connection:
            rows = connection.execute(
                "select name, sql from sqlite_master where type = 'index' and sql is not null"
            )
            return {name: sql.lower().replace('"', "") for name, sql in rows}

    assert indices(file) == indices(other)


def test_down_and_up_again_with_rows_in_it(file: Path, url: str):
    head = migrate(url)
    _fill(file)
    command.downgrade(configuration(url), "base")
    assert _tables(file) == {"alembic_version"}
    assert current(url) is None
    assert migrate(url) == head
    _fill(file)


def test_migrating_again_changes_nothing(file: Path, url: str):
    migrate(url)
    _fill(file)
    before = file.read_bytes()
    migrate(url)
    assert file.read_bytes() == before


def test_the_history_is_one_line():
    scripts = ScriptDirectory.from_config(configuration("sqlite://"))
    assert len(scripts.get_heads()) == len(scripts.get_bases()) == 1


def test_a_database_of_a_newer_version_is_left_alone(file: Path, url: str):
    migrate(url)
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("update alembic_version set version_num = '9999'")
    before = file.read_bytes()
    with pytest.raises(SchemaError, match="at revision 9999, which a newer fleet made"):
        migrate(url)
    assert file.read_bytes() == before


def test_what_is_no_database_is_left_alone(file: Path, url: str):
    file.write_bytes(b"not a database " * 100)
    with pytest.raises(SchemaError, match="cannot be used as a database"):
        migrate(url)
    assert file.read_bytes() == b"not a database " * 100


def test_a_path_with_percent_signs(tmp_path: Path):
    migrate(f"sqlite:///{tmp_path}/50%25.sqlite3")


def test_a_copy_before_a_migration_is_whole(file: Path, url: str):
    migrate(url)
    _fill(file)
    copy = back_up(url, "0001")
    assert copy.name.startswith("fleet.sqlite3.before-0001-")
    assert current(f"sqlite:///{copy}") == current(url)
    with closing(sqlite3.connect(copy)) as connection:
        assert [connection.execute(f"select count(*) from {table}").fetchone() for table in ROWS] == [
            (1,),
            (1,),
        ]
