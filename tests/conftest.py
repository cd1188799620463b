from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from tests.postgres import Postgres, server


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real PostgreSQL server for as long as this test process lives."""
    with server() as running:
        yield running


def pytest_collection_finish() -> None:
    """What is imported by now stays: the collector need not walk it again in every test."""
    gc.collect()
    gc.freeze()
