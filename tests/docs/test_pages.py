"""The pages that take a newcomer by the hand, followed to the letter, one after the other in one folder."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from tests.architecture.source import ROOT
from tests.docs.page import Reader, blocks

DOCS = ROOT / "docs"
JOURNEY = ("quickstart.md", "howto/pending.md", "howto/failure.md", "howto/upgrade.md", "howto/backup.md")


@pytest.fixture
def reader(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = tmp_path / "home"
    folder = tmp_path / "lab"
    folder.mkdir()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("FLEET_", "XDG_"))},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(home),
        "FLEET_URL": f"http://127.0.0.1:{port}",
        "FLEET_SERVER_PORT": str(port),
    }
    newcomer = Reader(folder, environment)
    try:
        yield newcomer
    finally:
        newcomer.leave()


def test_a_newcomer_trains_breaks_mends_upgrades_and_restores(reader):
    for page in JOURNEY:
        reader.follow(DOCS / page)


def test_what_a_page_shows_is_found():
    shown = [block for page in JOURNEY for block in blocks(DOCS / page)]
    assert sum(block.language == "sh" for block in shown) > 15
    assert sum(block.mark("file ") is not None for block in shown) > 5
