"""What Tab offers, asked of a coordinator on a real socket by the very script that a shell loads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

JOBS = [
    ("a" * 16, "base", "failed"),
    ("b" * 16, "basalt", "running"),
    ("c" * 16, "two words", "running"),
    ("d" * 16, "twin", "running"),
    ("e" * 16, "twin", "pending"),
    ("f" * 16, "$(touch hacked)", "running"),
]


class Told(BaseHTTPRequestHandler):
    """Lists as a coordinator gives them; whoever asks for `away` is sent elsewhere."""

    has_followed = False

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        rows = [
            {"job_id": of, "name": name, "status": status, "model": "gbt"}
            for of, name, status in JOBS
            if status in query.get("status", [status])
        ]
        workers = [{"name": "box", "live": True}, {"name": "pi", "live": False}]
        body = json.dumps({"jobs": rows, "workers": workers}).encode()
        if query.get("q") == ["away"]:
            self.send_response(302)
            self.send_header("Location", "/elsewhere")
            self.end_headers()
            return
        Told.has_followed |= parts.path == "/elsewhere"
        self.send_response(200 if self.headers["Authorization"] == "Bearer secret" else 401)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    with HTTPServer(("127.0.0.1", 0), Told) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        kept = {name: value for name, value in os.environ.items() if not name.startswith("FLEET_")}
        url = f"http://127.0.0.1:{server.server_address[1]}"
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        yield kept | {"FLEET_URL": url, "FLEET_TOKEN": "secret", "HOME": str(tmp_path), "PATH": path}
        server.shutdown()
        thread.join()


def offered(environment: dict[str, str], *words: str) -> list[str]:
    """By bash, which was given the line up to the last of the words."""
    script = (
        'eval "$(fleet --show-completion bash)"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
        '_fleet_completion fleet; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    ended = subprocess.run(
        ["bash", "-c", script, "bash", "fleet", *words],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert not ended.stderr
    return ended.stdout.split()


def test_jobs_workers_and_states(environment: dict[str, str], tmp_path: Path):
    assert offered(environment, "show", "ba") == ["base", "basalt"]
    assert offered(environment, "show", "") == ["base", "basalt", "c" * 16, "d" * 16, "e" * 16, "f" * 16]
    assert offered(environment, "cancel", "b") == ["basalt"], "what has ended cannot be cancelled"
    assert offered(environment, "drain", "") == ["box", "pi"]
    assert offered(environment, "drain", "p") == ["pi"]
    assert "failed" in offered(environment, "list", "--status", "")
    assert not list(tmp_path.glob("**/hacked"))


def test_the_token_goes_nowhere_else(environment: dict[str, str]):
    assert offered(environment, "show", "away") == []
    assert not Told.has_followed


@pytest.mark.parametrize(
    "change", [{"FLEET_TOKEN": "wrong"}, {"FLEET_URL": "http://127.0.0.1:9"}, {"FLEET_URL": "?"}]
)
def test_it_is_silent_where_nothing_is_to_be_had(environment: dict[str, str], change: dict[str, str]):
    assert offered(environment | change, "show", "") == []


@pytest.mark.parametrize(("shell", "shown"), [("zsh", '"base":"failed  gbt"'), ("fish", "base\tfailed  gbt")])
def test_shells_that_can_show_what_it_is(environment: dict[str, str], shell: str, shown: str):
    told = {
        "_FLEET_COMPLETE": f"complete_{shell}",
        "_TYPER_COMPLETE_ARGS": "fleet show bas",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    ended = subprocess.run(["fleet"], env=environment | told, capture_output=True, text=True, check=False)
    assert shown in ended.stdout, ended.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_each_shell_has_its_script(environment: dict[str, str], shell: str):
    ended = subprocess.run(
        ["fleet", "--show-completion", shell], env=environment, capture_output=True, text=True, check=True
    )
    assert "_FLEET_COMPLETE" in ended.stdout
