from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.postgres import Postgres, server


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real PostgreSQL server for as long as this test process lives."""
    with server() as running:
        yield running
