"""The agent as a Scheduled Task of Windows. Experimental: tested against the documented schema, not yet run there.

Nothing has to be installed for it. Each default that would end an agent is overruled: three days of running time, the
battery, the end of idleness, a second instance, a priority below everything, three restarts.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import PureWindowsPath
from xml.etree import ElementTree as Xml

from fleet_agent.services.plan import NAME, Command, File, Service, ServicePlan

NAMESPACE = "http://schemas.microsoft.com/windows/2004/02/mit/task"
Tree = Mapping[str, "str | Tree"]

SETTINGS: Tree = {
    "MultipleInstancesPolicy": "IgnoreNew",
    "DisallowStartIfOnBatteries": "false",
    "StopIfGoingOnBatteries": "false",
    "AllowHardTerminate": "true",
    "StartWhenAvailable": "true",
    "RunOnlyIfNetworkAvailable": "false",
    "IdleSettings": {"StopOnIdleEnd": "false", "RestartOnIdle": "false"},
    "AllowStartOnDemand": "true",
    "Enabled": "true",
    "Hidden": "false",
    "RunOnlyIfIdle": "false",
    "WakeToRun": "false",
    "ExecutionTimeLimit": "PT0S",
    "Priority": "5",
    "RestartOnFailure": {"Interval": "PT1M", "Count": "255"},
}
"""In the schema's order, which it insists on."""


def task_xml(service: Service, *, at_boot: bool) -> str:
    """The task's definition, without an XML declaration: PowerShell hands it over as text that has no encoding.

    The trigger is repeated for ever: with IgnoreNew that starts an agent whose restarts are used up, and no second one.
    """
    program, *arguments = service.command
    begin: Tree = {"Repetition": {"Interval": "PT5M", "StopAtDurationEnd": "false"}, "Enabled": "true"}
    principal: Tree = {
        "UserId": service.user,
        "LogonType": "S4U" if at_boot else "InteractiveToken",
        "RunLevel": "LeastPrivilege",
    }
    trigger: Tree = {"BootTrigger": begin} if at_boot else {"LogonTrigger": {**begin, "UserId": service.user}}
    action: Tree = {
        "Command": program,
        "Arguments": subprocess.list2cmdline(arguments),
        "WorkingDirectory": str(service.state),
    }
    task: Tree = {
        "RegistrationInfo": {"Description": "fleet agent: this machine's share of the training jobs"},
        "Triggers": trigger,
        "Principals": {"Principal": principal},
        "Settings": SETTINGS,
        "Actions": {"Exec": action},
    }
    root = Xml.Element("Task", {"version": "1.2", "xmlns": NAMESPACE})
    _grow(root, task)
    Xml.indent(root)
    for path, name in (("Principals/Principal", "id"), ("Actions", "Context")):
        for element in root.iterfind(path):
            element.set(name, "Author")
    return Xml.tostring(root, encoding="unicode") + "\n"


def _grow(parent: Xml.Element, tree: Tree) -> None:
    for name, value in tree.items():
        child = Xml.SubElement(parent, name)
        if isinstance(value, str):
            child.text = value
        else:
            _grow(child, value)


def task_plan(service: Service, *, at_boot: bool) -> ServicePlan:
    """`at_boot` needs an elevated shell, and runs without anybody logged in."""
    path = PureWindowsPath(service.state) / f"{NAME}.xml"
    return ServicePlan(
        account=None,
        files=(File(path, task_xml(service, at_boot=at_boot)),),
        start=(
            _powershell(
                f"Register-ScheduledTask -TaskName {NAME} -Force "
                f"-Xml (Get-Content -Raw -Encoding UTF8 -LiteralPath {_quoted(str(path))}) | Out-Null; "
                f"Start-ScheduledTask -TaskName {NAME}"
            ),
        ),
        stop=(
            _powershell(
                f"Stop-ScheduledTask -TaskName {NAME}; Unregister-ScheduledTask -TaskName {NAME} -Confirm:$false"
            ),
        ),
        forget=(),
        status=_powershell(f"if ((Get-ScheduledTask -TaskName {NAME}).State -ne 'Running') {{ exit 1 }}"),
        words=_powershell(f"Get-ScheduledTaskInfo -TaskName {NAME}"),
    )


def _powershell(script: str) -> Command:
    return ("powershell", "-NoProfile", "-NonInteractive", "-Command", script)


def _quoted(text: str) -> str:
    doubled = text.replace("'", "''")
    return f"'{doubled}'"
