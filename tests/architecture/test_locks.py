"""The locks belong to this `pyproject.toml`, hold a hash for every file, and name no machine to fetch from."""

from __future__ import annotations

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.architecture.source import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
RANGES = [
    *PROJECT["dependencies"],
    *(line for extra in PROJECT["optional-dependencies"].values() for line in extra),
]
PIN = re.compile(r"^([a-z0-9._-]+)==([^ ;]+)(?: ; (.+?))? \\$", re.MULTILINE)


def read(lock: str) -> str:
    return (ROOT / "requirements" / f"{lock}.txt").read_text("utf-8")


def pins(lock: str) -> set[tuple[str, str, str]]:
    """(name, version, marker) of every locked package."""
    return {(found[1], found[2], found[3] or "") for found in PIN.finditer(read(lock))}


@pytest.mark.parametrize("lock", ["demo", "test", "data"])
def test_every_pin_has_hashes_and_none_an_address(lock):
    text = read(lock)
    assert "://" not in text
    assert pins(lock)
    for entry in re.split(r"^(?=[a-z])", text, flags=re.MULTILINE)[1:]:
        assert "--hash=sha256:" in entry, entry


@pytest.mark.parametrize("lock", ["demo", "test", "data"])
def test_torch_is_in_no_lock(lock):
    assert not {name for name, _, _ in pins(lock)} & {"torch", "triton"}


def test_the_test_lock_contains_the_demo_lock():
    def versions(lock: str) -> set[tuple[str, str]]:  # where each is installed may be more places there
        return {(name, version) for name, version, _ in pins(lock)}

    assert versions("demo") <= versions("test")


@pytest.mark.parametrize("line", [line for line in RANGES if not line.startswith(PROJECT["name"])])
def test_the_lock_is_of_this_project(line):
    wanted = Requirement(line)
    versions = [version for name, version, _ in pins("test") if name == canonicalize_name(wanted.name)]
    assert versions, "run `make lock`"
    assert all(wanted.specifier.contains(version) for version in versions), "run `make lock`"
