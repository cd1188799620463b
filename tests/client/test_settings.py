from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from fleet_client.errors import BadAddress
from fleet_client.settings import checked_url, find_target
from fleet_protocol.credentials import Kind, make
from fleet_protocol.local import LocalServer, write_note
from fleet_protocol.version import DEFAULT_URL


def test_the_flag_beats_the_environment_beats_the_default(monkeypatch: pytest.MonkeyPatch):
    assert find_target().url == DEFAULT_URL
    monkeypatch.setenv("FLEET_URL", "https://lab.example/fleet/")
    assert find_target().url == "https://lab.example/fleet"
    assert find_target("http://127.0.0.1:1").url == "http://127.0.0.1:1"


def test_http_is_for_this_machine_only():
    with pytest.raises(BadAddress, match="would send your token unprotected") as refusal:
        checked_url("http://lab.example:8490")
    assert refusal.value.next
    assert "https://lab.example:8490" in refusal.value.next
    assert checked_url("http://localhost:8490")
    assert checked_url("http://[::1]:8490")


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8490", "ftp://127.0.0.1", "http://", "http://127.0.0.1:99999", ""]
)
def test_what_is_no_address_is_refused(url: str):
    with pytest.raises(BadAddress):
        checked_url(url)


def test_a_viewers_token_is_known_by_its_text(monkeypatch: pytest.MonkeyPatch):
    for kind in get_args(Kind):
        monkeypatch.setenv("FLEET_TOKEN", str(make(kind)))
        assert find_target().read_only is (kind == "viewer")


def test_the_best_token_of_this_account_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delenv("FLEET_TOKEN")
    server = LocalServer(port=8490, data=tmp_path)
    write_note(server)
    assert find_target().token is None
    server.token_file("viewer").parent.mkdir()
    server.token_file("viewer").write_text("v\n")
    assert find_target().token == "v"
    server.token_file("operator").write_text("o\n")
    assert find_target().token == "o"
    assert find_target("http://127.0.0.1:8491").token is None


def test_a_token_is_not_printed_with_its_target():
    assert "secret" not in repr(find_target("http://127.0.0.1:1")).replace("the-token", "secret")
