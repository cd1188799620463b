"""systemd units as pure text: one sandbox for the coordinator's service and the agent's, written once."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

STATES = PurePosixPath("/var/lib")
MARK = "# Written by fleet; `{program} {verb}` writes it anew, so keep changes in a drop-in: systemctl edit {name}"

Properties = tuple[tuple[str, str], ...]

_CONFINED: Properties = (
    ("NoNewPrivileges", "yes"),
    ("LockPersonality", "yes"),
    ("RestrictRealtime", "yes"),
    ("RestrictSUIDSGID", "yes"),
    ("RestrictNamespaces", "yes"),
    ("RestrictAddressFamilies", "AF_UNIX AF_INET AF_INET6 AF_NETLINK"),
    ("SystemCallArchitectures", "native"),
    ("SystemCallFilter", "@system-service"),
    ("SystemCallErrorNumber", "EPERM"),
    ("UMask", "0077"),
)
"""What an account's own service manager can do too."""

_SANDBOXED: Properties = (
    ("CapabilityBoundingSet", ""),
    ("AmbientCapabilities", ""),
    ("SystemCallFilter", "~@privileged"),
    ("ProtectSystem", "strict"),
    ("ProtectHome", "yes"),
    ("PrivateTmp", "yes"),
    ("ProtectProc", "invisible"),
    ("ProtectClock", "yes"),
    ("ProtectControlGroups", "yes"),
    ("ProtectHostname", "yes"),
    ("ProtectKernelLogs", "yes"),
    ("ProtectKernelModules", "yes"),
    ("ProtectKernelTunables", "yes"),
    ("RemoveIPC", "yes"),
)

_NO_DEVICES: Properties = (("PrivateDevices", "yes"),)
# The driver's name for its first group of devices depends on its version, so that both are named.
_NVIDIA: Properties = (
    ("DevicePolicy", "closed"),
    *(
        ("DeviceAllow", f"char-{group} rw")
        for group in ("nvidia", "nvidia-frontend", "nvidia-uvm", "nvidia-caps")
    ),
)


@dataclass(frozen=True, slots=True)
class Unit:
    """A service of fleet's."""

    name: str
    made_by: str
    """The command that writes it."""
    description: str
    command: tuple[str, ...]
    state: PurePosixPath
    """The one folder that it may write to."""
    account: str | None
    """None: a unit of somebody's own service manager, which has no other account and a weaker sandbox."""
    service: Properties
    """How it is stopped, and what is its own."""
    has_gpu: bool = False


def sandbox(unit: Unit) -> Properties:
    """What confines it, for the unit and for a trial in the same surroundings."""
    if unit.account is None:
        return _CONFINED
    has_default_place = unit.state.parent == STATES
    state = (
        ("StateDirectory", unit.state.name)
        if has_default_place
        else ("ReadWritePaths", _word(str(unit.state)))
    )
    return (
        ("User", unit.account),
        state,
        *((("StateDirectoryMode", "0700"),) if has_default_place else ()),
        *_CONFINED,
        *_SANDBOXED,
        *(_NVIDIA if unit.has_gpu else _NO_DEVICES),
    )


def unit_text(unit: Unit) -> str:
    """The unit's file. A clock that was never set fails every certificate, hence time-sync.target."""
    is_system = unit.account is not None
    program, _, verb = unit.made_by.partition(" ")
    before: Properties = (("Description", unit.description), ("StartLimitIntervalSec", "0"))
    if is_system:
        before += (
            ("Wants", "network-online.target time-sync.target"),
            ("After", "network-online.target time-sync.target"),
        )
    service: Properties = (
        ("ExecStart", " ".join(map(_word, unit.command))),
        ("Restart", "always"),
        ("RestartSec", "5"),
        *unit.service,
        *sandbox(unit),
    )
    sections = (
        ("Unit", before),
        ("Service", service),
        ("Install", (("WantedBy", "multi-user.target" if is_system else "default.target"),)),
    )
    body = "\n\n".join(f"[{title}]\n" + "\n".join(_lines(entries)) for title, entries in sections)
    return f"{MARK.format(program=program, verb=verb, name=unit.name)}\n{body}\n"


def _lines(entries: Iterable[tuple[str, str]]) -> Iterable[str]:
    return (f"{key}={value}" for key, value in entries)


def _word(word: str) -> str:
    """One argument as systemd reads it: no specifier, no variable, and one word whatever is in it."""
    escaped = re.sub(r'(["\\])', r"\\\1", word).replace("%", "%%").replace("$", "$$")
    return escaped if re.fullmatch(r"[\w@%+=:,./$-]+", escaped, re.ASCII) else f'"{escaped}"'
