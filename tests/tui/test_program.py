"""`fleet-tui` as people and programs start it: real terminal, real coordinator, real signals."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.tui.driver import recorded
from tests.tui.recorded import job
from tests.tui.terminal import Terminal

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals and POSIX signals")

MANIFEST = """schema_version = 1
name = "small-lab"
[[jobs]]
name = "first-job"
model = "gbt"
"""


@contextmanager
def terminal(*arguments: str, home: Path, **environment: Any) -> Iterator[Terminal]:
    opened = Terminal(*arguments, home=home, **environment)
    try:
        yield opened
    finally:
        opened.close()


@contextmanager
def coordinator(home: Path, port: int = 0) -> Iterator[str]:
    """A real coordinator with one job; its address."""
    (home / "manifest.toml").write_text(MANIFEST)
    options = ["--port", str(port), "--data", str(home / "data"), "--manifest", str(home / "manifest.toml")]
    process = subprocess.Popen(
        [sys.executable, "-m", "fleet_server", "serve", *options],
        env={"PATH": "", "FLEET_STATE_DIR": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = next(line for line in process.stdout if "listening on" in line)
        yield line.split()[-1]
    finally:
        process.terminate()
        process.communicate(timeout=30)


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address where nobody listens, and nobody else can begin to."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{reserved.getsockname()[1]}"


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(lambda opened: opened.process.send_signal(signal.SIGTERM), id="SIGTERM"),
        pytest.param(lambda opened: opened.process.send_signal(signal.SIGHUP), id="SIGHUP"),
        pytest.param(lambda opened: opened.type(b"q"), id="q"),
        pytest.param(lambda opened: opened.type(b"\x03"), id="Ctrl-C"),
    ],
)
def test_it_ends_cleanly_and_gives_the_terminal_back(end, nobody: str, tmp_path: Path) -> None:
    with terminal("--url", nobody, home=tmp_path) as opened:
        opened.until("Still trying")
        assert not opened.is_restored
        end(opened)

        assert opened.ended() == 0
        assert opened.is_restored
        assert b"Traceback" not in opened.seen


def test_no_colour_means_no_colour_and_ascii_nothing_but_ascii(nobody: str, tmp_path: Path) -> None:
    with terminal("--url", nobody, "--ascii", home=tmp_path, NO_COLOR="1") as opened:
        opened.until("Still trying")
        opened.type(b"/nothing\r")
        opened.until("/nothing")
        opened.type(b"?")
        opened.until("regular expression")

        codes = {
            code for run in re.findall(rb"\x1b\[([0-9;:]*)m", opened.seen) for code in re.split(b"[;:]", run)
        }
        attributes = {b"", b"0", b"1", b"2", b"7", b"22", b"27"}
        assert codes <= attributes | {b"39", b"49"}  # these two say: the terminal's own
        assert opened.seen.isascii()
        opened.type(b"qq")
        assert opened.ended() == 0
        assert '"ascii": true' in (tmp_path / "dashboard.json").read_text()


def test_a_terminal_that_cannot_be_drawn_on_and_a_theme_that_is_none_exit_2(tmp_path: Path) -> None:
    with terminal(home=tmp_path, TERM="dumb") as opened:
        assert opened.ended() == 2
        assert b"fleet status" in opened.seen
    with terminal("--theme", "drak", home=tmp_path) as opened:
        assert opened.ended() == 2
        assert b"there is no theme 'drak', but: dark, light" in opened.seen


def test_it_ends_with_its_terminal(nobody: str, tmp_path: Path) -> None:
    with terminal("--url", nobody, home=tmp_path) as opened:
        opened.until("Still trying")
        assert opened.hang_up() == 1


def test_colours_are_sent_where_they_are_wanted(nobody: str, tmp_path: Path) -> None:
    with terminal("--url", nobody, home=tmp_path) as opened:
        opened.until("Still trying")
        assert b"38;2;" in opened.seen


def test_an_order_to_a_real_coordinator(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with coordinator(tmp_path) as url, terminal("--url", url, home=tmp_path) as opened:
        opened.until("first-job")
        opened.until("live")
        opened.type(b"x")
        opened.until("Cancel this job?")
        opened.type(b"y")
        opened.until("cancelled first-job")
        opened.type(b"q")
        assert opened.ended() == 0


def test_a_coordinator_that_starts_later_and_restarts_is_found(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with terminal("--url", f"http://127.0.0.1:{port}", home=tmp_path) as opened:
        opened.until("Still trying")
        for _ in range(2):
            opened.seen = b""
            with coordinator(tmp_path, port):
                opened.until("● live")
            opened.until("reconnecting in")
        opened.type(b"q")
        assert opened.ended() == 0


def test_a_wrong_token_is_a_sentence_and_exit_1(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with coordinator(tmp_path) as url, terminal("--url", url, home=tmp_path, FLEET_TOKEN="wrong") as opened:
        assert opened.ended() == 1
        assert opened.is_restored
        assert b"does not accept the token" in opened.seen
        assert b"Traceback" not in opened.seen


def test_copied_edited_and_paged_from_a_recording(tmp_path: Path) -> None:
    text, _ = asyncio.run(recorded())
    (tmp_path / "lab.jsonl").write_text(text)
    reader = tmp_path / "reader"
    reader.write_text('#!/bin/sh\necho "reading $(basename "$1") $(stat -c %a "$1")"; cat "$1"; read _\n')
    reader.chmod(0o700)
    own = {"EDITOR": str(reader), "PAGER": str(reader), "VISUAL": ""}
    with terminal("--replay", str(tmp_path / "lab.jsonl"), home=tmp_path, **own) as opened:
        opened.until("cnn-oracle")
        opened.type(b"jjk")
        opened.until("epoch 24/40")
        opened.type(b"y")
        opened.until("\x1b]52;c;" + b64encode(job("lstm-realistic").job_id.encode()).decode())
        for key, shown in ((b"e", '"split_recipe"'), (b"v", "epoch 24/40  loss")):
            opened.seen = b""
            opened.type(key)
            opened.until("-1." + ("json" if key == b"e" else "log") + " 400")
            opened.until(shown)
            opened.type(b"\x03\n")
            opened.until("following")
        opened.type(b"q")
        assert opened.ended() == 0
        assert opened.is_restored


def test_a_broken_recording_is_a_sentence_and_exit_2(tmp_path: Path) -> None:
    (tmp_path / "broken.jsonl").write_text("\n")
    with terminal("--replay", str(tmp_path / "broken.jsonl"), home=tmp_path) as opened:
        assert opened.ended() == 2
        assert b"line 1, is no line of a recording" in opened.seen


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fleet_tui", *arguments],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def test_without_a_terminal_it_says_so_and_exits_2() -> None:
    done = run()

    assert done.returncode == 2
    assert (
        done.stderr
        == "fleet-tui: fleet-tui draws on a terminal, and this is none. For scripts: fleet status --json\n"
    )


def test_an_address_that_is_none_exits_2(tmp_path: Path) -> None:
    with terminal("--url", "nonsense", home=tmp_path) as opened:
        assert opened.ended() == 2
        assert b"is not a coordinator's address" in opened.seen


def test_nothing_slow_is_imported_before_the_first_screen() -> None:
    code = "import sys, fleet_tui.app, fleet_tui.access; print(*{'httpx', 'websockets', 'typer'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == ""
