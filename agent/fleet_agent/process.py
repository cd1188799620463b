"""One trainer process and everything it starts: begun, watched and ended as a group.

The trainer writes straight into its spool file and a shell records its exit status, so neither needs the
agent: it may die, be upgraded, and find the trainer again. A lock that the whole group inherits shows that it
lives, which no reused process id can fake. What left the group and the lock is known by its environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fleet_agent import confine, locks
from fleet_agent.services.systemd import ACCOUNT
from fleet_agent.waiting import is_set_within

# `trap :` keeps the shell waiting for the trainer through a SIGTERM to the group, and is reset in the trainer.
# The guard ends a trainer of which nobody renews the `deadline`: its agent is gone, or stands still. It sleeps
# before it reads, or it would act on a deadline that was renewed meanwhile.
# Its own words go nowhere: some shells tell of a trainer's death by signal, and the log is the trainer's alone.
# `exit.tmp` has its room from the beginning, and is written in place: the disk may be full by then.
# When memory runs out, the trainer goes before its agent does; where that may not be said, it is left out.
# The group is killed last, by the shell itself: what the trainer left behind ends with it, agent or no agent.
SUPERVISOR = """
exec 2>/dev/null; trap : TERM INT HUP; echo $$ >pid; echo '   ' >exit.tmp
guard() {
    trap '' TERM INT HUP; look=1
    while sleep $look && read -r end look <deadline && read -r now idle </proc/uptime; do
        [ ${now%.*} -lt $end ] || { [ -e stop.json ] || mv unheard.json stop.json; kill -KILL 0; }
    done
}
if [ -e deadline ]; then guard >/dev/null 2>&1 & fi
(cd work || exit; { echo 500 >/proc/self/oom_score_adj; } 2>/dev/null; exec "$@" 2>&1); status=$?
echo $status 1<>exit.tmp && mv exit.tmp exit; kill -KILL 0
"""
ENVIRONMENT_BYTES = 256 * 1024
POLL_SECONDS = 0.2
STRAGGLER_SECONDS = 2.0


def supervised(command: Sequence[str]) -> list[str]:
    """The command that runs `command` in `work`, and writes `pid` and `exit` into its own folder."""
    return ["/bin/sh", "-c", SUPERVISOR, "fleet-supervisor", *command]


def confinement(state: Path) -> list[str]:
    """Keeps the command behind it from the agent's secret, where there is one and the account is the agent's own."""
    secret = state / "credential"
    if not secret.exists() or not _has_own_account(secret) or not confine.is_supported():
        return []
    return [sys.executable, "-I", "-S", confine.__file__, str(state)]


def _has_own_account(secret: Path) -> bool:
    """Whether it belongs to the account that `enrol` makes for a system service."""
    import pwd

    owner = secret.stat().st_uid
    return any(entry.pw_name == ACCOUNT for entry in pwd.getpwall() if entry.pw_uid == owner)


WINDOWS_TWIN = """
import msvcrt, os, pathlib, subprocess, sys
lock = os.open("lock", os.O_RDWR | os.O_CREAT)
msvcrt.locking(lock, msvcrt.LK_NBLCK, 1)
pathlib.Path("pid").write_text(str(os.getpid()))
status = subprocess.call(sys.argv[1:], cwd="work")
pathlib.Path("exit.tmp").write_text(str(status))
os.replace("exit.tmp", "exit")
"""


def supervised_windows_never_run_yet(command: Sequence[str], python: str) -> list[str]:
    """`supervised` for Windows. Not run anywhere so far: `start` refuses there until it was."""
    return [python, "-I", "-S", "-c", WINDOWS_TWIN, *command]


class Trainer:
    """The processes of one attempt, through its folder; it may have been started by an earlier agent."""

    def __init__(self, folder: Path, child: subprocess.Popen[bytes] | None = None) -> None:
        self._folder = folder
        self._child = child

    @property
    def was_started(self) -> bool:
        return (self._folder / "pid").exists() or self.is_alive

    @property
    def is_alive(self) -> bool:
        """True while any process of the trainer lives that kept what it inherited."""
        return locks.is_held(self._folder / "lock")

    @property
    def exit_status(self) -> int | None:
        """As a shell counts: 128 + N for signal N. None when it was never recorded."""
        try:
            return int((self._folder / "exit").read_text())
        except (OSError, ValueError):
            return None

    @property
    def group(self) -> int | None:
        """The supervisor's process id, which is its group's too; None until it wrote it."""
        if self._child is not None:
            return self._child.pid
        try:
            return int((self._folder / "pid").read_text())
        except (OSError, ValueError):
            return None

    def signal(self, number: signal.Signals) -> None:
        """Signal the whole group, if it lives: the id of a dead one may belong to somebody else by now."""
        group = self.group
        if group is not None and self.is_alive:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, number)

    async def ended(self) -> None:
        """Return once the supervisor is gone, and nothing that it started is left."""
        await self._supervisor_gone()
        self._reap()
        for _ in range(int(STRAGGLER_SECONDS / 0.02)):
            escaped = self._escaped()
            if not escaped and not self.is_alive:
                break
            # Either the shell's own last act is still under way, or the shell was killed before the trainer:
            # nobody can learn that trainer's exit status any more, so it ends here too.
            self.signal(signal.SIGKILL)
            for process in escaped:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(process, signal.SIGKILL)
            await asyncio.sleep(0.02)

    def _reap(self) -> None:
        if self._child is not None:
            self._child.wait()
        elif (group := self.group) is not None:  # our own child still, if this program took its own place
            with contextlib.suppress(ChildProcessError):
                os.waitpid(group, os.WNOHANG)

    def _escaped(self) -> list[int]:
        """Processes of whatever session whose environment names this attempt's job; needs Linux's /proc."""
        mark = os.fsencode(f"FLEET_JOB_SPEC={self._folder / 'job.json'}") + b"\0"
        if sys.platform != "linux":
            return []
        with os.scandir("/proc") as entries:
            return [int(e.name) for e in entries if e.name.isdecimal() and mark in _environment(e.name)]

    async def _supervisor_gone(self) -> None:
        while self.is_alive:
            group = self.group
            if sys.platform == "linux" and group is not None:
                with contextlib.suppress(ProcessLookupError):
                    await _readable(os.pidfd_open(group))
                return
            await asyncio.sleep(POLL_SECONDS)

    async def stop(self, grace: float, hurry: asyncio.Event) -> None:
        """SIGTERM; after `grace` seconds, or as soon as `hurry` is set, SIGKILL. `ended` returns then."""
        self.signal(signal.SIGTERM)
        await is_set_within(hurry, grace)
        self.signal(signal.SIGKILL)


def _environment(process: str) -> bytes:
    """What a process began with; empty when it is gone, a zombie or somebody else's."""
    try:
        handle = os.open(f"/proc/{process}/environ", os.O_RDONLY)
    except OSError:
        return b""
    try:
        return os.read(handle, ENVIRONMENT_BYTES)
    except OSError:
        return b""
    finally:
        os.close(handle)


async def _readable(descriptor: int) -> None:
    """Wait until `descriptor` is readable, as a process's is once it has ended; closes it."""
    loop, event = asyncio.get_running_loop(), asyncio.Event()
    try:
        loop.add_reader(descriptor, event.set)
        await event.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def start(folder: Path, command: Sequence[str], environment: Mapping[str, str]) -> Trainer:
    """Start `command` under its supervisor in `folder`; OSError when this machine cannot."""
    if sys.platform == "win32":
        raise OSError("this version of fleet-agent cannot run jobs on Windows yet")
    (folder / "work").mkdir(exist_ok=True)
    lock = locks.take(folder / "lock")
    if lock is None:
        raise OSError(f"{folder} has a running trainer already")
    try:
        spool = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            child = subprocess.Popen(
                [*confinement(folder.parent.parent), *supervised(command)],
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=spool,
                stderr=spool,
                start_new_session=True,
                pass_fds=[lock],
            )
        finally:
            os.close(spool)
    finally:
        os.close(lock)
    return Trainer(folder, child)


@dataclass(frozen=True, slots=True)
class Processes:
    """How trainers are begun, and found again by a later agent; a simulation has its own."""

    start: Callable[[Path, Sequence[str], Mapping[str, str]], Trainer] = start
    find: Callable[[Path], Trainer] = Trainer


REAL = Processes()
