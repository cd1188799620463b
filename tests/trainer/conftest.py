from __future__ import annotations

from pathlib import Path

import pytest

from tests.trainer.synthetic import write_dataset


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("sines"))
