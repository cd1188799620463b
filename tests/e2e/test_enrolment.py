"""A machine joins by the line that the operator copies, trains, and is shut out in the middle of it."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys

import pytest

from fleet_protocol.states import JobStatus
from tests.e2e import manifests
from tests.e2e.house import House, data_folder
from tests.e2e.programs import environment

pytestmark = pytest.mark.e2e


def enrol(house: House, name: str, *more: str) -> subprocess.CompletedProcess[str]:
    """What the operator's line does, with the options that a house needs."""
    line = json.loads(house.fleet("join", "new", "--json"))
    token = house.folder / f"{name}.token"
    token.write_text(line["token"])
    options = ["--name", name, "--state", str(house.state(name)), "--data", str(data_folder(house.folder))]
    options += ["--service", "none", *more]
    return subprocess.run(
        [sys.executable, "-m", "fleet_agent", "enrol", line["url"], "--token-file", str(token), *options],
        env=environment(house.folder) | {"FLEET_STATE_DIR": str(house.folder / "another account")},
        cwd=house.folder,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_two_hosts_enrol_train_and_one_is_shut_out_in_the_middle(house: House):
    house.serve(manifests.of("job"))
    for name in ("one", "two"):
        done = enrol(house, name)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "credential:" in done.stdout
    agents = {"one": house.agent("one")}
    house.trainer("job")
    assert house.job("job").worker == "one"
    told = json.loads(house.fleet("token", "list", "--json"))["tokens"]
    assert {(token["role"], token["name"]) for token in told} == {("agent", "one"), ("agent", "two")}

    agents["two"] = house.agent("two")
    assert "is shut out" in house.fleet("workers", "revoke", "one", "--reason", "stolen")
    house.until(lambda: house.job("job").worker == "two", "the job to go on elsewhere")
    house.go("job")
    house.until_status("job", JobStatus.COMPLETED)
    assert "revoked" in agents["one"].said()
    agents["one"].end()
    secrets = [
        json.loads((house.state(name) / "credential").read_text())["credential"].split("_")[2]
        for name in agents
    ]
    said = "".join(program.said() for program in house.programs) + str(house.events())
    assert not [secret for secret in secrets if secret in said]


def test_a_line_works_once_and_says_who_used_it(house: House):
    house.serve(manifests.of("job"))
    lines = house.fleet("join", "new").splitlines()
    (line,) = [one for one in lines if one.startswith(f"fleet-agent enrol {house.url} --token fj1_")]
    token = shlex.split(line)[-1]
    ends = [_type(house, name, token) for name in ("one", "two")]
    assert [end.returncode for end in ends] == [0, 1], ends
    assert "used up, by one" in ends[1].stderr
    assert not [end for end in ends if token in end.stdout + end.stderr]
    assert "good for" in house.fleet("join", "list")


def _type(house: House, name: str, token: str) -> subprocess.CompletedProcess[str]:
    options = ["--name", name, "--state", str(house.state(name)), "--service", "none"]
    return subprocess.run(
        [sys.executable, "-m", "fleet_agent", "enrol", house.url, "--token", token, *options],
        env=environment(house.folder),
        cwd=house.folder,
        capture_output=True,
        text=True,
        timeout=120,
    )
