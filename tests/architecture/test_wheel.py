"""What is installed is what is in the tree: code, schema history, style sheets, data and type markers."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.architecture.source import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PACKAGES = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The wheel, built from this tree and unpacked elsewhere."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout + done.stderr
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(folder / "site")
    return folder / "site"


@pytest.fixture(scope="module")
def shipped(installed) -> set[str]:
    files = (file.relative_to(installed) for file in installed.rglob("*") if file.is_file())
    return {file.as_posix() for file in files if not file.parts[0].endswith(".dist-info")}


def test_every_file_of_every_package_is_in_the_wheel(shipped):
    there = {
        file.relative_to((ROOT / package).parent).as_posix()
        for package in PACKAGES
        for file in (ROOT / package).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert shipped == there


@pytest.mark.parametrize("package", [package.rpartition("/")[2] for package in PACKAGES])
def test_every_package_is_marked_as_typed(shipped, package):
    assert f"{package}/py.typed" in shipped


def test_what_is_not_code_travels_too(shipped):
    assert {name.rpartition(".")[2] for name in shipped} >= {"py", "typed", "json"}
    assert "fleet_migrations/env.py" in shipped
    assert any(name.startswith("fleet_migrations/versions/") for name in shipped)


START = """
import importlib, pathlib, sys
module = importlib.import_module(sys.argv[1])
assert pathlib.Path(module.__file__).is_relative_to(sys.argv[2]), module.__file__
sys.argv = ["program", "--help"]
sys.exit(module.main())
"""


@pytest.mark.parametrize("target", PYPROJECT["project"]["scripts"].values())
def test_every_program_starts_from_the_wheel_alone(installed, tmp_path, target):
    module, _, function = target.partition(":")
    assert function == "main"
    done = subprocess.run(
        [sys.executable, "-c", START, module, str(installed)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    assert "--help" in done.stdout
