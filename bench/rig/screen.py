"""The dashboard in a terminal of 120x36, and what it costs: CPU time, bytes, milliseconds until a key is answered."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from select import select
from statistics import quantiles

from tests.tui.terminal import Terminal

from bench.rig.demo import ROOT
from bench.rig.place import Place, command
from bench.rig.programs import cpu_seconds

JOB_ID = re.compile(rb"[0-9a-f]{16}")
"""Only the detail of the selected job shows one."""
CURSOR = re.compile(rb"\x1b\[(\d+);1H\x1b\[[\d;]*m" + "▌".encode())
"""The line of the list that the cursor is drawn on."""
MIDDLE = 11
"""A line of the list, in a terminal of 36."""
KEY_SECONDS = 0.13
"""Between two keys: no multiple of the dashboard's own pace."""
REPEAT_SECONDS = 0.033
"""Between two keys that a keyboard sends for one that is held down."""
KIB = 1024


@dataclass
class Screen:
    terminal: Terminal
    line: bytes = b""
    """Of the screen, that the cursor is on."""

    @property
    def pid(self) -> int:
        return self.terminal.process.pid

    def until(self, text: str) -> None:
        self.terminal.until(text)

    def read(self, seconds: float) -> bytes:
        """What is drawn in that time."""
        self.terminal.seen = b""
        return self.read_on(seconds)

    def read_on(self, seconds: float) -> bytes:
        """All that was drawn since the last `read`."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.terminal.read()
        return self.terminal.seen

    def quiet(self, seconds: float = 0.5) -> None:
        """Until nothing but the ages that grow is drawn."""
        while len(self.read(seconds)) > KIB:
            pass

    def step(self) -> float:
        """Milliseconds until the cursor is drawn on another line of the screen; away from the list's ends."""
        found = CURSOR.findall(self.terminal.seen)
        self.line = found[-1] if found else self.line
        key = b"j" if int(self.line or 0) < MIDDLE else b"k"
        return self._answered(key, lambda seen: {*CURSOR.findall(seen)} - {self.line})

    def select(self, key: bytes) -> float:
        """Milliseconds until another job's detail is drawn."""
        shown = JOB_ID.findall(self.terminal.seen)[-1:]
        return self._answered(key, lambda seen: [one for one in JOB_ID.findall(seen) if [one] != shown])

    def answered(self, key: bytes, text: bytes) -> float:
        """Milliseconds until the text is drawn."""
        return self._answered(key, lambda seen: text in seen)

    def _answered(self, key: bytes, done: Callable[[bytes], object]) -> float:
        terminal = self.terminal
        before = len(terminal.seen)
        began = time.perf_counter()
        terminal.type(key)
        while not done(terminal.seen[before:]):
            if not terminal.read() or time.perf_counter() - began > 30:
                raise RuntimeError(f"{key!r} was not answered: {terminal.seen[-2000:]!r}")
        return 1000 * (time.perf_counter() - began)


@dataclass(frozen=True)
class Load:
    """What it cost to be told things for a while."""

    cpu_pct: float
    """While nobody presses a key."""
    drawn_kib: float
    """A second, while nobody presses a key."""
    told_kib: float
    """A second, from the coordinator."""
    key_ms: tuple[float, float]
    """Within which half of the keys are answered, and 95 of 100."""
    lag_ms: float
    """From the coordinator's last word to its being on the screen; at most a key's time too long."""


@dataclass
class Talker:
    """The rig's own coordinator, see `bench.rig.talker`."""

    process: subprocess.Popen[str]
    url: str

    def order(self, order: str) -> Talker:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{order}\n")
        return self

    def answer(self) -> int:
        """Bytes that it sent since the order."""
        assert self.process.stdout is not None
        return int(json.loads(self.process.stdout.readline())["bytes"])

    @property
    def is_done(self) -> bool:
        assert self.process.stdout is not None
        return bool(select([self.process.stdout], [], [], 0)[0])


@contextmanager
def talker(jobs: int) -> Iterator[Talker]:
    told = command("talker", jobs)
    with subprocess.Popen(told, cwd=ROOT, stdin=-1, stdout=-1, text=True, bufsize=1) as process:
        assert process.stdout is not None
        try:
            yield Talker(process, process.stdout.readline().strip())
        finally:
            process.terminate()


@contextmanager
def screen(place: Place, url: str, *options: str, token: str = "bench") -> Iterator[Screen]:
    home = place.new_folder()
    home.chmod(0o700)
    # What was compiled once is not compiled again at each start.
    terminal = Terminal("--url", url, *options, home=home, FLEET_TOKEN=token, PYTHONDONTWRITEBYTECODE="")
    try:
        yield Screen(terminal)
    finally:
        terminal.close()


@contextmanager
def shown(place: Place, jobs: int, *options: str) -> Iterator[tuple[Screen, Talker]]:
    """The dashboard with so many jobs on it, at rest, the cursor on the second one."""
    with talker(jobs) as told, screen(place, told.url, *options) as opened:
        told.order("snapshot").answer()
        opened.until("● live")
        opened.until("active-01")
        opened.quiet()
        opened.select(b"j")
        opened.quiet()
        yield opened, told


def loaded(opened: Screen, told: Talker, seconds: float, key: Callable[[], float], last: str = "") -> Load:
    """What it costs to be told things for `seconds`; then, until `told` has obeyed, how long a key takes meanwhile."""
    began, before = time.monotonic(), cpu_seconds(opened.pid)
    drawn = len(opened.read(seconds))
    rate = 1 / (time.monotonic() - began)
    busy = cpu_seconds(opened.pid) - before
    took = []
    while not told.is_done:
        opened.read(KEY_SECONDS)
        took.append(key())
    over = time.monotonic()
    while last.encode() not in opened.read(0.05):
        opened.terminal.type(b"g")  # what came above is seen from the first line only
    lag = 1000 * (time.monotonic() - over)
    whole = 1 / (over - began) / KIB
    cuts = quantiles(took, n=20) if len(took) > 1 else took * 20
    return Load(100 * busy * rate, drawn * rate / KIB, told.answer() * whole, (cuts[9], cuts[-1]), lag)
