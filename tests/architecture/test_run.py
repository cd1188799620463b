"""`run.py` is the first thing a newcomer meets, on whatever machine they have."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
import run

from tests.architecture.source import ROOT

CPU = {"install": [{"metadata": {"requires_dist": ["filelock", "sympy>=1.13.3"]}}]}
CUDA = {
    "install": [
        {
            "metadata": {
                "requires_dist": [
                    "filelock",
                    'cuda-bindings<14,>=13.0.3; platform_system == "Linux"',
                    'nvidia-nccl-cu13==2.29.7; platform_system == "Linux"',
                    'nvidia-something==1; extra == "optional"',
                ]
            }
        }
    ]
}


def start(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "run.py", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


def test_an_old_python_can_still_read_it():
    ast.parse((ROOT / "run.py").read_text("utf-8"), feature_version=(3, 6))


def test_it_needs_the_standard_library_only():
    tree = ast.parse((ROOT / "run.py").read_text("utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in imported} <= sys.stdlib_module_names


@pytest.mark.parametrize(("windows", "path"), [(True, "Scripts/pytest.exe"), (False, "bin/pytest")])
def test_programs_are_where_each_system_puts_them(windows, path):
    assert Path(run.program(Path("venv"), "pytest", windows)) == Path("venv") / path


def test_a_cuda_build_is_known_by_what_it_needs():
    assert run.cuda_parts(CPU, "linux") == []
    assert [need.partition(";")[0] for need in run.cuda_parts(CUDA, "linux")] == [
        "cuda-bindings<14,>=13.0.3",
        "nvidia-nccl-cu13==2.29.7",
    ]


def test_elsewhere_than_on_linux_no_part_of_cuda_is_fetched():
    assert run.cuda_parts(CUDA, "darwin") == []


def test_torch_already_there_wants_nothing():
    assert run.cuda_parts({"install": []}, "linux") == []


@pytest.mark.parametrize(
    ("choice", "driver", "taken"),
    [("auto", False, False), ("auto", True, True), ("cpu", True, False), ("cuda", False, True)],
)
def test_gigabytes_of_cuda_come_only_where_they_are_of_use_or_asked_for(choice, driver, taken):
    assert run.welcome(["nvidia-nccl-cu13"], choice, driver) is taken
    assert run.welcome([], choice, driver)


def test_no_newer_python_is_one_clear_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(run.Refusal, match=r"needs Python 3\.11 or newer"):
        run.newer_python()


def test_a_shim_that_runs_nothing_is_passed_over(monkeypatch, tmp_path):
    for name, code in (("python3.11", 127), ("python3.12", 0)):
        shim = tmp_path / name
        shim.write_text(f"#!/bin/sh\nexit {code}\n")
        shim.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run.newer_python(windows=False) == ["python3.12"]


def test_a_foreign_environment_is_left_alone(tmp_path):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "file").touch()
    done = start("setup", FLEET_VENV=str(tmp_path / "theirs"))
    assert done.returncode == 1
    assert "did not make" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "theirs" / "file").exists()


@pytest.mark.parametrize(
    ("arguments", "code"), [(["--help"], 0), ([], 2), (["tset"], 2), (["--torch", "rocm", "demo"], 2)]
)
def test_a_slip_of_the_hand_shows_the_commands(arguments, code):
    done = start(*arguments)
    assert (done.returncode, done.stderr) == (code, "")
    assert "python3 run.py demo" in done.stdout


def test_fingerprints_follow_what_they_stand_for(monkeypatch):
    before = run.fingerprints("demo", "auto")
    assert run.fingerprints("demo", "auto") == before
    assert run.fingerprints("test", "auto")[0] == before[0]
    assert run.fingerprints("test", "auto")[1] != before[1]
    assert run.fingerprints("demo", "skip")[1] != before[1]
    monkeypatch.setattr(run, "VENV", Path("elsewhere"))
    assert run.fingerprints("demo", "auto")[0] != before[0]


@pytest.mark.parametrize(
    ("rest", "right"),
    [
        ([], False),
        (["there"], True),
        (["there", "linux-arm64", "windows-x86_64"], True),
        (["there", "amiga"], False),
    ],
)
def test_a_folder_is_filled_for_systems_that_are_known(rest, right):
    assert run.is_right("vendor", "auto", rest) is right


def test_an_option_and_its_value_are_not_for_the_command_that_follows():
    arguments = ["demo", "--offline", "wheels", "--no-tui"]
    assert run.taken(arguments, "--offline") == "wheels"
    assert arguments == ["demo", "--no-tui"]
    assert run.taken(arguments, "--offline") == ""


def test_without_internet_pip_looks_only_into_the_folder(tmp_path, monkeypatch):
    """In every call, whatever the folder is called."""
    monkeypatch.setenv("PIP_NO_INDEX", "")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    folder = tmp_path / "all the wheels"
    folder.mkdir()
    run.stay_offline(str(folder))
    said = subprocess.run(
        [sys.executable, "-m", "pip", "download", "--dest", str(tmp_path), "there-is-none"],
        capture_output=True,
        text=True,
    ).stderr
    assert "all%20the%20wheels" in os.environ["PIP_FIND_LINKS"]
    assert "No matching distribution found for there-is-none" in said


def test_a_folder_that_is_not_there_is_told_at_once():
    ended = start("demo", "--offline", "/nowhere/at/all")
    assert ended.returncode == 1
    assert "there is no such folder" in ended.stderr
