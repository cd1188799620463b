from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.fake import TOKEN, Coordinator, running


@pytest.fixture
def coordinator() -> Iterator[Coordinator]:
    with running(Coordinator()) as started:
        yield started


@pytest.fixture(autouse=True)
def own_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test sees the settings or the coordinators of the account that runs it."""
    monkeypatch.delenv("FLEET_URL", raising=False)
    monkeypatch.setenv("FLEET_TOKEN", TOKEN)
    monkeypatch.setenv("FLEET_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("FLEET_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("FLEET_CONTEXT", "")
