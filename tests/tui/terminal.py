"""The program in a real pseudo-terminal."""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

PATIENCE = 30.0
"""Seconds until a hang becomes a failure."""


class Terminal:
    """`fleet-tui` as a child with a terminal of its own; `seen` is every byte that it drew."""

    def __init__(
        self, *arguments: str, home: Path, width: int = 120, height: int = 36, **environment: str
    ) -> None:
        self.leader, follower = pty.openpty()
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        self.before = termios.tcgetattr(follower)
        self._follower = follower
        clean = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("FLEET_", "TEXTUAL", "NO_"))
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fleet_tui", *arguments],
            stdin=follower,
            stdout=follower,
            stderr=follower,
            start_new_session=True,
            env=clean
            | {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
            | {"FLEET_STATE_DIR": str(home), "FLEET_CONFIG_DIR": str(home)}
            | environment,
        )
        self.seen = b""

    def read(self) -> bool:
        """Take what was drawn; False once the program has ended and all is read."""
        ready, _, _ = select.select([self.leader], [], [], 0.02)
        if not ready:
            return self.process.poll() is None
        try:
            self.seen += os.read(self.leader, 65536)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return False
        return True

    def until(self, text: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while text.encode() not in self.seen:
            assert self.read(), f"it ended before {text!r}: {self.seen[-2000:]!r}"
            assert time.monotonic() < deadline, f"no {text!r} in {self.seen[-2000:]!r}"

    def type(self, keys: bytes) -> None:
        os.write(self.leader, keys)

    def ended(self) -> int:
        deadline = time.monotonic() + PATIENCE
        while self.read():
            assert time.monotonic() < deadline, "it does not end"
        return self.process.wait(PATIENCE)

    def hang_up(self) -> int:
        """The terminal goes without a word, as when an SSH session is killed; how the program then ends."""
        os.close(self.leader)
        self.leader = -1
        return self.process.wait(PATIENCE)

    @property
    def is_restored(self) -> bool:
        """The terminal's modes are as before, and the other screen, the mouse and the hidden cursor are gone."""
        tail = self.seen[-400:]
        undone = all(code in tail for code in (b"\x1b[?1049l", b"\x1b[?25h", b"\x1b[?1000l"))
        return undone and termios.tcgetattr(self._follower) == self.before

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        if self.leader >= 0:
            os.close(self.leader)
        os.close(self._follower)
