"""Which service manager an agent is to be handed to."""

from __future__ import annotations

import getpass
import os
import shutil
import sys
from enum import StrEnum
from pathlib import Path

from fleet_agent.errors import AgentError
from fleet_agent.services import launchd, systemd, windows
from fleet_agent.services.plan import Service, ServicePlan


class Kind(StrEnum):
    SYSTEM = "system"
    USER = "user"
    NONE = "none"


def usual_kind() -> Kind:
    """A system service where one may be made, else one of the account's own."""
    return Kind.SYSTEM if sys.platform != "win32" and os.geteuid() == 0 else Kind.USER


def describe(command: tuple[str, ...], state: Path) -> Service:
    return Service(command, state, Path.home(), getpass.getuser(), has_gpu=Path("/dev/nvidiactl").exists())


def plan_for(kind: Kind, service: Service, platform: str = sys.platform) -> ServicePlan | None:
    """None where no service is wanted."""
    if kind is Kind.NONE:
        return None
    if platform == "win32":
        return windows.task_plan(service, at_boot=kind is Kind.SYSTEM)
    if platform == "darwin":
        return launchd.daemon_plan(service)
    return systemd.system_plan(service) if kind is Kind.SYSTEM else systemd.user_plan(service)


def check_manager(kind: Kind) -> None:
    """AgentError where such a service cannot be made here, by this account."""
    if sys.platform != "linux":
        raise AgentError(
            f"Installing a service on {sys.platform} was never tried yet: see what it would do by --dry-run, do it by "
            "hand, or enrol with --service none."
        )
    if not Path("/run/systemd/system").is_dir() or shutil.which("systemctl") is None:
        raise AgentError(
            "systemd does not run this machine: enrol with --service none, and have `fleet-agent run` started by what "
            "does."
        )
    if kind is Kind.SYSTEM and os.geteuid() != 0:
        raise AgentError("A system service needs root: use sudo, or --service user.")
