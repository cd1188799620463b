"""The agent under systemd: a system service with its own account, or one of somebody's own service manager."""

from __future__ import annotations

from pathlib import PurePath, PurePosixPath

from fleet_agent.services.plan import NAME, Command, File, Service, ServicePlan
from fleet_protocol.units import Properties, Unit, sandbox, unit_text

ACCOUNT = "fleet-agent"
STATE = PurePosixPath("/var/lib/fleet-agent")
UNIT = f"{NAME}.service"
SYSTEM_FILE = PurePosixPath("/etc/systemd/system") / UNIT
DRAIN_SECONDS = 600

# Trainers outlive their agent (KillMode), and it them where memory runs out (OOMPolicy).
_LIFE: Properties = (
    ("ExecReload", "/bin/kill -HUP $MAINPID"),
    ("KillMode", "process"),
    ("TimeoutStopSec", str(DRAIN_SECONDS)),
    ("OOMPolicy", "continue"),
    ("LimitNOFILE", "65536"),
    ("TasksMax", "8192"),
    ("Environment", "LANG=C.UTF-8"),
)


def unit(service: Service, *, is_system: bool) -> Unit:
    return Unit(
        name=NAME,
        made_by="fleet-agent enrol",
        description="fleet agent: this machine's share of the training jobs",
        command=service.command,
        state=PurePosixPath(service.state),
        account=ACCOUNT if is_system else None,
        service=_LIFE,
        has_gpu=service.has_gpu,
    )


def system_plan(service: Service) -> ServicePlan:
    ours = unit(service, is_system=True)
    return ServicePlan(
        account=ACCOUNT,
        files=(File(SYSTEM_FILE, unit_text(ours)),),
        start=_start(()),
        stop=(("systemctl", "disable", "--now", NAME),),
        forget=(("systemctl", "daemon-reload"),),
        status=("systemctl", "is-active", "--quiet", NAME),
        words=("journalctl", "-u", NAME, "-n", "30", "--no-pager"),
        context=_context(ours),
    )


def user_plan(service: Service) -> ServicePlan:
    """Lingering lets it run while its account is not logged in."""
    ours, manager = unit(service, is_system=False), ("--user",)
    return ServicePlan(
        account=None,
        files=(File(user_file(service.home), unit_text(ours)),),
        start=(*_start(manager), ("loginctl", "enable-linger", service.user)),
        stop=(("systemctl", "--user", "disable", "--now", NAME),),
        forget=(("systemctl", "--user", "daemon-reload"),),
        status=("systemctl", "--user", "is-active", "--quiet", NAME),
        words=("journalctl", "--user", "-u", NAME, "-n", "30", "--no-pager"),
        context=_context(ours),
    )


def user_file(home: PurePath) -> PurePath:
    return home / ".config/systemd/user" / UNIT


def _start(manager: Command) -> tuple[Command, ...]:
    systemctl = ("systemctl", *manager)
    return ((*systemctl, "daemon-reload"), (*systemctl, "enable", NAME), (*systemctl, "restart", NAME))


def _context(ours: Unit) -> Command:
    """A transient unit with the same account, environment and sandbox."""
    manager = () if ours.account else ("--user",)
    confines = (("Environment", "LANG=C.UTF-8"), *sandbox(ours))
    properties = (word for key, value in confines for word in ("-p", f"{key}={value}"))
    return ("systemd-run", *manager, "--quiet", "--wait", "--pipe", "--collect", *properties, "--")
