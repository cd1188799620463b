"""The service files in etc/, as the program writes them: `python -m tests.units` writes them anew."""

from __future__ import annotations

from pathlib import Path, PurePosixPath, PureWindowsPath

from fleet_agent.services.launchd import property_list
from fleet_agent.services.plan import Service
from fleet_agent.services.systemd import STATE, unit
from fleet_agent.services.windows import task_xml
from fleet_protocol.units import unit_text
from fleet_server.install import server_unit

ETC = Path(__file__).parents[1] / "etc"
PYTHON = "/opt/fleet/.venv/bin/python"


def service(python: str = PYTHON, *, has_gpu: bool = False) -> Service:
    command = (python, "-m", "fleet_agent", "run", "--state", str(STATE))
    return Service(command, STATE, PurePosixPath("/home/ada"), "ada", has_gpu=has_gpu)


def windows_service() -> Service:
    state = PureWindowsPath(r"C:\ProgramData\fleet agent")
    program = r"C:\fleet\.venv\Scripts\fleet-agent.exe"
    return Service((program, "run", "--state", str(state)), state, state.parent, r"LAB\ada")


def files() -> dict[str, str]:
    mac = PurePosixPath("/usr/local/var/fleet-agent")
    return {
        "fleet-agent.service": unit_text(unit(service(), is_system=True)),
        "fleet-agent-gpu.service": unit_text(unit(service(has_gpu=True), is_system=True)),
        "fleet-agent.user.service": unit_text(unit(service(), is_system=False)),
        "fleet-agent.task.xml": task_xml(windows_service(), at_boot=False),
        "org.fleet-lab.agent.plist": property_list(
            Service((PYTHON, "-m", "fleet_agent", "run", "--state", str(mac)), mac, mac, "ada")
        ),
        "fleet-server.service": server_unit(PYTHON),
    }


if __name__ == "__main__":
    for name, text in files().items():
        (ETC / name).write_text(text, "utf-8", newline="\n")
