"""The host's own file: strict, whole in its complaints, and second to flags and environment."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fleet_agent.cli import app
from fleet_agent.errors import UsageError
from fleet_agent.settings import Settings
from fleet_agent.settings_file import load_settings

EXAMPLE = Path(__file__).parents[2] / "etc" / "agent.toml.example"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "agent.toml"


def test_the_example_shows_every_setting_and_loads(tmp_path: Path, file: Path) -> None:
    loaded = load_settings(EXAMPLE)
    assert (loaded["models"], loaded["gpus"], loaded["allow_commands"]) == ("gbt,mlp", "none", False)
    whole = re.sub(r"^# (\w+ = )", r"\1", EXAMPLE.read_text("utf-8"), flags=re.MULTILINE)
    file.write_text(whole.replace("/srv/fleet-data", str(tmp_path)))
    assert load_settings(file).keys() == {field.name for field in fields(Settings)}


def test_everything_wrong_is_told_at_once_with_its_line(file: Path) -> None:
    file.write_text(
        'allow_command = true\nmodels = "gbt"\n\ncores = 0\nmax_jobs = "many"\ngrace = nan\n'
        'allow_commands = "false"\nserver = "http://elsewhere"\nstate = 1979-05-27\n'
    )
    with pytest.raises(UsageError) as caught:
        load_settings(file)
    told = str(caught.value).splitlines()
    assert {int(line.removeprefix(f"{file}:").partition(":")[0]) for line in told} == {1, 2, 4, 5, 6, 7, 8, 9}
    assert f"{file}:1: allow_command: unknown key; did you mean `allow_commands`?" in told
    assert f"{file}:4: cores: must be at least 1 and at most 100000, not 0." in told
    assert f'{file}:7: allow_commands: expected true or false, found "false"' in told


@pytest.mark.parametrize("content", [b"cores = ", b"name = '\xff'", None])
def test_what_cannot_be_read_is_a_sentence(file: Path, content: bytes | None) -> None:
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UsageError, match=r"agent\.toml"):
        load_settings(file)


def test_flag_before_environment_before_file_before_default(file: Path, environment: dict[str, str]) -> None:
    file.write_text(
        'name = "of-file"\nmodels = ["gbt"]\nmax_jobs = 3\ngrace = 0.5\npython = "/no/python"\nserver = "http://127.0.0.1:9"\n'
    )

    def doctor(*flags: str, **more: str) -> str:
        done = CliRunner().invoke(app, ["doctor", "--settings", str(file), *flags], env=environment | more)
        return done.stdout

    assert "name      of-file\n" in doctor()
    assert "jobs      3 at once" in doctor(FLEET_AGENT_NAME="of-environment")
    assert "name      of-environment\n" in doctor(FLEET_AGENT_NAME="of-environment")
    assert "name      of-flag\n" in doctor("--name", "of-flag", FLEET_AGENT_NAME="of-environment")


def test_a_wrong_file_ends_every_command_with_a_usage_error(file: Path, environment: dict[str, str]) -> None:
    file.write_text("corse = 1\n")
    done = CliRunner().invoke(app, ["run"], env=environment | {"FLEET_AGENT_SETTINGS": str(file)})
    assert (done.exit_code, done.stderr) == (
        2,
        f"fleet-agent: {file}:1: corse: unknown key; did you mean `cores`?\n",
    )
