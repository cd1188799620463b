"""Service definitions: what is shipped is what is written, and the systems' own tools and schemas agree with it."""

from __future__ import annotations

import plistlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree as Xml

import pytest

from fleet_agent.services import launchd, systemd, windows
from fleet_protocol.units import Unit, unit_text
from fleet_server.install import server_unit
from tests.units import ETC, files, service, windows_service

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None,
    reason="systemd-analyze is not installed (Debian: package systemd)",
)
MOST_EXPOSED = "25"  # tenths
TASK = {"": windows.NAMESPACE}


def test_the_shipped_files_are_what_the_program_writes() -> None:
    """`python -m tests.units` mends them."""
    assert {name: (ETC / name).read_text("utf-8") for name in files()} == files()


@needs_systemd
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("fleet-agent", unit_text(systemd.unit(service(sys.executable), is_system=True))),
        ("fleet-agent", unit_text(systemd.unit(service(sys.executable, has_gpu=True), is_system=True))),
        ("fleet-server", server_unit(sys.executable, ["--manifest", "/srv/a manifest.toml"])),
    ],
)
def test_a_system_unit_is_valid_and_confined(tmp_path: Path, name: str, text: str) -> None:
    file = tmp_path / f"{name}.service"
    file.write_text(text)
    verified = subprocess.run(
        ["systemd-analyze", "verify", str(file)], capture_output=True, text=True, check=False
    )
    assert (verified.returncode, verified.stderr) == (0, "")
    judge = [
        "systemd-analyze",
        "security",
        "--offline=yes",
        f"--threshold={MOST_EXPOSED}",
        "--no-pager",
        str(file),
    ]
    judged = subprocess.run(judge, capture_output=True, text=True, check=False)
    assert judged.returncode == 0, judged.stdout[-200:]


@needs_systemd
def test_a_user_unit_is_valid(tmp_path: Path) -> None:
    file = tmp_path / "fleet-agent.service"
    file.write_text(unit_text(systemd.unit(service(sys.executable), is_system=False)))
    verify = ["systemd-analyze", "--user", "verify", str(file)]
    environment = {"XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)}
    done = subprocess.run(verify, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_agents_unit_leaves_its_trainers_alive_and_lets_torch_compile() -> None:
    text = unit_text(systemd.unit(service(has_gpu=True), is_system=True))
    assert {"KillMode=process", "OOMPolicy=continue", "Restart=always", "StateDirectoryMode=0700"} <= {
        *text.splitlines()
    }
    assert "MemoryDenyWriteExecute" not in text
    assert "PrivateDevices" not in text
    for group in ("nvidia", "nvidia-frontend", "nvidia-uvm", "nvidia-caps"):
        assert f"\nDeviceAllow=char-{group} rw\n" in text
    assert "time-sync.target" in text


def test_words_of_a_command_stay_words() -> None:
    odd = Unit("n", "p v", "d", ("/a b/c", '100%"$HOME'), PurePosixPath("/srv/s t"), "a", ())
    assert '\nExecStart="/a b/c" "100%%\\"$$HOME"\n' in unit_text(odd)
    assert '\nReadWritePaths="/srv/s t"\n' in unit_text(odd)


def test_the_trial_has_the_units_account_and_sandbox() -> None:
    plan = systemd.system_plan(service())
    unit = plan.files[0].text
    given = [word for flag, word in zip(plan.context, plan.context[1:], strict=False) if flag == "-p"]
    assert {"User=fleet-agent", "ProtectSystem=strict", "NoNewPrivileges=yes"} <= {*given}
    assert all(f"\n{word}\n" in unit for word in given)


@pytest.mark.parametrize("make", [systemd.user_plan, lambda s: windows.task_plan(s, at_boot=False)])
def test_without_root_no_command_asks_for_it(make: Callable) -> None:
    plan = make(service())
    assert plan.account is None
    assert not any("useradd" in word for command in plan.start for word in command)


@pytest.mark.parametrize("at_boot", [False, True])
def test_a_task_overrules_every_default_that_would_end_it(at_boot: bool) -> None:
    task = Xml.fromstring(windows.task_xml(windows_service(), at_boot=at_boot))
    settings = {entry.tag.rpartition("}")[2]: entry.text for entry in task.find("Settings", TASK)}
    expected = {
        "MultipleInstancesPolicy": "IgnoreNew",
        "DisallowStartIfOnBatteries": "false",
        "StopIfGoingOnBatteries": "false",
        "StartWhenAvailable": "true",
        "RunOnlyIfIdle": "false",
        "ExecutionTimeLimit": "PT0S",
    }
    assert settings | expected == settings
    assert task.findtext("Settings/RestartOnFailure/Interval", None, TASK) == "PT1M"
    assert 1 <= int(task.findtext("Settings/RestartOnFailure/Count", "", TASK)) <= 255  # an unsigned byte
    assert task.findtext("Settings/IdleSettings/StopOnIdleEnd", None, TASK) == "false"
    trigger = "BootTrigger" if at_boot else "LogonTrigger"
    assert task.findtext(f"Triggers/{trigger}/Repetition/Interval", None, TASK) == "PT5M"
    assert task.findtext("Principals/Principal/LogonType", None, TASK) == (
        "S4U" if at_boot else "InteractiveToken"
    )
    assert task.findtext("Actions/Exec/Arguments", None, TASK) == (
        r'run --state "C:\ProgramData\fleet agent"'
    )


def test_a_tasks_elements_stand_in_the_schemas_order() -> None:
    """Task Scheduler refuses any other: https://learn.microsoft.com/windows/win32/taskschd/task-scheduler-schema."""
    task = Xml.fromstring(windows.task_xml(windows_service(), at_boot=False))
    tags = [entry.tag.rpartition("}")[2] for entry in task]
    assert tags == ["RegistrationInfo", "Triggers", "Principals", "Settings", "Actions"]
    trigger = [entry.tag.rpartition("}")[2] for entry in task.find("Triggers/LogonTrigger", TASK)]
    assert trigger == ["Repetition", "Enabled", "UserId"]
    assert task.find("Principals/Principal", TASK).get("id") == task.find("Actions", TASK).get("Context")


def test_powershell_takes_a_path_with_a_quote_as_text() -> None:
    odd = windows.task_plan(windows_service(), at_boot=False)
    assert "-LiteralPath 'C:\\ProgramData\\fleet agent\\" in odd.start[0][-1]
    assert windows._quoted("O'Neil") == "'O''Neil'"


def test_launchd_keeps_trainers_and_starts_it_again() -> None:
    entries = plistlib.loads(launchd.property_list(service()).encode())
    assert (entries["KeepAlive"], entries["AbandonProcessGroup"], entries["UserName"]) == (True, True, "ada")
    assert entries["ProgramArguments"][1:4] == ["-m", "fleet_agent", "run"]
