"""A page that names a test as its proof names one that is there."""

from __future__ import annotations

import re

import pytest

from tests.architecture.source import ROOT

NAMED = re.compile(r"`(\w+/test_\w+\.py)(?:::(\w+))?`")
PAGES = ("reference/dashboard.md", "security.md", "notes/logs.md")


@pytest.mark.parametrize("page", PAGES)
def test_every_proof_exists(page):
    found = NAMED.findall((ROOT / "docs" / page).read_text("utf-8"))
    assert len(found) > 10
    for file, name in found:
        text = (ROOT / "tests" / file).read_text("utf-8")
        assert not name or f"def {name}(" in text, f"{file}::{name}"
