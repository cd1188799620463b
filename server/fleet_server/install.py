"""`fleet-server install`: the coordinator as a systemd service with its own account."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from fleet_protocol.units import Properties, Unit, unit_text

ACCOUNT = "fleet-server"
STATE = PurePosixPath("/var/lib/fleet-server")
UNIT_FILE = Path("/etc/systemd/system/fleet-server.service")

_LIFE: Properties = (
    ("KillMode", "mixed"),
    ("TimeoutStopSec", "60"),
    ("LimitNOFILE", "65536"),
    ("MemoryDenyWriteExecute", "yes"),
    ("EnvironmentFile", "-/etc/fleet/server.env"),
)


class NotInstalled(Exception):
    """The machine, or who asks, cannot have such a service; the message says what to do."""


def server_unit(python: str, flags: Sequence[str] = ()) -> str:
    """The unit of a coordinator that `python` runs, with `flags` for `serve`."""
    return unit_text(
        Unit(
            name="fleet-server",
            made_by="fleet-server install",
            description="fleet coordinator",
            command=(python, "-m", "fleet_server", "serve", "--data", str(STATE), *flags),
            state=STATE,
            account=ACCOUNT,
            service=_LIFE,
        )
    )


def steps(*, has_account: bool) -> tuple[tuple[str, ...], ...]:
    """The commands around the unit's file, each of which may be repeated."""
    account = ("useradd", "--system", "--home-dir", str(STATE), "--shell", "/usr/sbin/nologin", ACCOUNT)
    return (
        *(() if has_account else (account,)),
        ("systemctl", "daemon-reload"),
        ("systemctl", "enable", "fleet-server"),
        ("systemctl", "restart", "fleet-server"),
        ("systemctl", "is-active", "fleet-server"),
    )


def install(flags: Sequence[str], *, dry_run: bool) -> None:
    """Write the unit and start it, or only show how. NotInstalled, with the unit taken back."""
    text, commands = server_unit(sys.executable, flags), steps(has_account=_has_account())
    if dry_run:
        print(f"# {UNIT_FILE}\n{text}", *("$ " + " ".join(words) for words in commands), sep="\n")  # noqa: T201 - its answer
        return
    if not Path("/run/systemd/system").is_dir() or shutil.which("systemctl") is None:
        raise NotInstalled("systemd does not run this machine; start `fleet-server serve` by what does")
    if os.geteuid() != 0:
        raise NotInstalled("a system service needs root: use sudo, or see it with --dry-run")
    before = UNIT_FILE.read_text("utf-8") if UNIT_FILE.exists() else None
    UNIT_FILE.write_text(text, "utf-8")
    for words in commands:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            _take_back(before)
            raise NotInstalled(
                f"{' '.join(words)}: {(done.stderr or done.stdout).strip()}; the unit is as it was"
            )


def _take_back(before: str | None) -> None:
    if before is None:
        subprocess.run(["systemctl", "disable", "--now", "fleet-server"], capture_output=True, check=False)
        UNIT_FILE.unlink()
    else:
        UNIT_FILE.write_text(before, "utf-8")
    subprocess.run(["systemctl", "daemon-reload"], capture_output=True, check=False)


def _has_account() -> bool:
    try:
        pwd.getpwnam(ACCOUNT)
    except KeyError:
        return False
    return True
