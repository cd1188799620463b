"""The agent's settings file, which belongs to the host's administrator: what may run here is said by it and by flags.

TOML, a key for each setting. The coordinator can neither read nor change it.
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Literal, get_type_hints

from platformdirs import user_config_path
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from fleet_agent.errors import UsageError
from fleet_agent.settings import BadSettings, Settings
from fleet_protocol.problems import describe
from fleet_protocol.toml_lines import KeyPath, locate

HOSTS_OWN = Path("/etc/fleet/agent.toml")

Setting = str | int | float | bool


def default_file() -> Path | None:
    """The host's, else the account's own; None where there is neither."""
    own = user_config_path("fleet") / "agent.toml"
    return next((path for path in (HOSTS_OWN, own) if path.is_file()), None)


def load_settings(path: Path) -> dict[str, Setting]:
    """What the file sets, each as its flag would take it. UsageError names everything that is wrong at once."""
    try:
        text = path.read_text("utf-8")
        table = tomllib.loads(text)
    except OSError as error:
        raise UsageError(f"--settings {path} cannot be read: {error.strerror}.") from None
    except ValueError as error:  # neither TOML nor UTF-8
        raise UsageError(f"{path} is no TOML file: {error}") from None
    found: list[tuple[KeyPath, str]] = []
    wrong: set[str | int] = set()
    try:
        _schema().model_validate_json(json.dumps(table, default=_date), strict=True)
    except ValidationError as error:
        found = list(describe(error, _schema()))
        wrong = {key[0] for key, _ in found if key}
    given = {name: _flag(value) for name, value in table.items() if name not in wrong}
    found += [((name,), sentence) for name, sentence in _senseless(given)]
    if found:
        lines = locate(text)
        raise UsageError("\n".join(f"{path}:{lines.of(key)}: {key[0]}: {wrong}" for key, wrong in found))
    return given


@cache
def _schema() -> type[BaseModel]:
    """The settings as the file has them: lists where flags have commas."""
    types = get_type_hints(Settings) | {
        "models": list[str],
        "gpus": list[int] | Literal["none"],
        "max_jobs": int | Literal["auto"],
    }
    names = {field.name: (types[field.name], None) for field in fields(Settings)}
    return create_model("AgentSettings", __config__=ConfigDict(extra="forbid"), **names)  # type: ignore[call-overload,no-any-return]  # the fields are known only here


def _flag(value: object) -> Setting:
    if isinstance(value, list):
        return ",".join(map(str, value)) or "none"
    assert isinstance(value, Setting)
    return value


def _senseless(given: dict[str, Setting]) -> list[tuple[str, str]]:
    """Values of the right type that make no sense."""
    numbers = {"max_jobs": None} if given.get("max_jobs") == "auto" else {}
    folders = {name: Path(str(given[name])) for name in ("state", "data", "git") if name in given}
    try:
        Settings(**(given | numbers | folders))  # type: ignore[arg-type]  # the schema saw to the types
    except BadSettings as error:
        return list(error.problems)
    return []


def _date(value: object) -> dict[str, str]:
    """What no setting is: TOML alone has dates and times."""
    return {"date": str(value)}
