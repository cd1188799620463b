"""What is installed is what is in the tree: code, schema history, style sheets, data and type markers."""

from __future__ import annotations

import importlib
import subprocess
import sys
import tomllib
import zipfile

import pytest

from tests.architecture.source import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PACKAGES = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]


@pytest.fixture(scope="module")
def shipped(tmp_path_factory) -> set[str]:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout + done.stderr
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        return {name for name in wheel.namelist() if ".dist-info/" not in name}


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


@pytest.mark.parametrize("target", PYPROJECT["project"]["scripts"].values())
def test_every_program_has_its_entry_point(target):
    module, _, function = target.partition(":")
    assert callable(getattr(importlib.import_module(module), function))
