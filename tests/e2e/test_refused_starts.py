"""Programs that cannot start say why in a sentence, and change nothing."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.e2e import manifests
from tests.e2e.house import House
from tests.e2e.programs import Program, start

pytestmark = pytest.mark.e2e


def refused(house: House, module: str, *arguments: str) -> str:
    program: Program = start(f"refused-{len(house.programs)}", [module, *arguments], house.folder)
    house.programs.append(program)
    assert program.process.wait(30) == 1
    return program.said()


def test_a_port_or_data_folder_in_use_is_named(house: House):
    house.serve()
    port = house.url.rpartition(":")[2]
    assert f"port {port} on 127.0.0.1 is in use" in refused(
        house, "fleet_server", "serve", "--port", port, "--data", "other"
    )
    assert "server" in refused(house, "fleet_server", "serve", "--port", "0", "--data", "server")
    house.fleet("status")


def test_a_database_of_a_newer_version_is_left_alone(house: House):
    house.serve().end()
    database = house.folder / "server" / "fleet.sqlite3"
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    assert "newer" in refused(house, "fleet_server", "serve", "--port", "0", "--data", "server")


def test_a_wrong_token_ends_an_agent_that_just_started(house: House):
    house.serve(manifests.of("job"))
    (house.folder / "server" / "tokens" / "agent").write_text("not-the-token\n")
    said = refused(house, "fleet_agent", "run", "--server", house.url, "--state", "state")
    assert "token" in said


def test_two_agents_on_one_state_folder_do_not_fight(house: House):
    house.serve(manifests.of("job"))
    house.agent("worker")
    house.trainer("job")
    said = refused(house, "fleet_agent", "run", "--server", house.url, "--state", str(house.state("worker")))
    assert "Another agent runs on" in said


@pytest.mark.parametrize("module", ["fleet_server", "fleet_agent", "fleet_trainer"])
def test_ctrl_c_while_a_program_still_imports_is_quiet(module: str, tmp_path: Path):
    heard = "signal.signal(signal.SIGINT, signal.default_int_handler)"  # a shell's background ignores it
    (tmp_path / "typer.py").write_text(f"import os, signal\n{heard}\nos.kill(os.getpid(), signal.SIGINT)\n")
    done = subprocess.run(
        [sys.executable, "-m", module, "--version"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize(
    ("module", "name"),
    [("fleet_server", "fleet-server"), ("fleet_agent", "fleet-agent"), ("fleet_trainer", "fleet-train")],
)
def test_each_program_tells_its_version(module: str, name: str):
    done = subprocess.run(
        [sys.executable, "-m", module, "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(f"{name} ")
