"""The agent under launchd of macOS. Experimental: an example of what to install, not yet run there."""

from __future__ import annotations

import plistlib
from pathlib import PurePosixPath

from fleet_agent.services.plan import File, Service, ServicePlan
from fleet_agent.services.systemd import DRAIN_SECONDS

LABEL = "org.fleet-lab.agent"
DAEMON_FILE = PurePosixPath("/Library/LaunchDaemons") / f"{LABEL}.plist"


def property_list(service: Service) -> str:
    """AbandonProcessGroup: trainers outlive their agent, as they do under systemd."""
    entries = {
        "Label": LABEL,
        "ProgramArguments": list(service.command),
        "UserName": service.user,
        "RunAtLoad": True,
        "KeepAlive": True,
        "AbandonProcessGroup": True,
        "ExitTimeOut": DRAIN_SECONDS,
        "Umask": 0o077,
        "WorkingDirectory": str(service.state),
        "StandardErrorPath": str(service.state / "agent.log"),
    }
    return plistlib.dumps(entries, sort_keys=False).decode()


def daemon_plan(service: Service) -> ServicePlan:
    """As `service.user`, from the machine's start on. Its folders must not be in Desktop, Documents or Downloads."""
    return ServicePlan(
        account=None,
        files=(File(DAEMON_FILE, property_list(service)),),
        start=(("launchctl", "bootstrap", "system", str(DAEMON_FILE)),),
        stop=(("launchctl", "bootout", f"system/{LABEL}"),),
        forget=(),
        status=("launchctl", "print", f"system/{LABEL}"),
        words=("tail", "-n", "30", str(service.state / "agent.log")),
    )
