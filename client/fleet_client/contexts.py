"""The operator's settings file: the fleets that he looks after by name, and which of them is meant where none is named.

`config.toml` in the platform's folder for settings, readable by its owner alone; `FLEET_CONFIG_DIR` moves the folder.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from platformdirs import user_config_path

from fleet_client.errors import BadSettings

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
HEAD = "# Written by `fleet context`; `fleet config show --origin` says what comes from where.\n"


@dataclass(frozen=True, slots=True)
class Context:
    """One fleet: its address, and its token or the file that holds it; without either one is looked for."""

    url: str
    token: str | None = field(default=None, repr=False)
    token_file: str | None = None

    def read_token(self) -> str | None:
        """BadSettings where its file cannot be read."""
        if self.token_file is None:
            return self.token
        try:
            return Path(self.token_file).expanduser().read_text("utf-8").strip() or None
        except (OSError, ValueError) as error:
            raise BadSettings(f"the token in {self.token_file} cannot be read: {error}.") from error


@dataclass(frozen=True, slots=True)
class Config:
    """The whole file."""

    context: str | None = None
    contexts: Mapping[str, Context] = field(default_factory=dict)

    def named(self, name: str) -> Context:
        """BadSettings where there is none of that name."""
        if name in self.contexts:
            return self.contexts[name]
        from fleet_protocol.hyper import suggestion

        there = suggestion(name, self.contexts) or f"; there are: {', '.join(self.contexts) or 'none'}"
        raise BadSettings(f"there is no context {name!r}{there}", f"fleet context add {name} URL")


def config_folder() -> Path:
    folder = os.environ.get("FLEET_CONFIG_DIR")
    return Path(folder) if folder else user_config_path("fleet")


def config_file() -> Path:
    return config_folder() / "config.toml"


def read() -> Config:
    """An absent file sets nothing; BadSettings names everything that is wrong with one, each with its line."""
    path = config_file()
    try:
        text = path.read_text("utf-8")
        table = tomllib.loads(text)
    except FileNotFoundError:
        return Config()
    except OSError as error:
        raise BadSettings(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:  # neither TOML nor UTF-8
        raise BadSettings(f"{path} is no TOML file: {error}") from error
    return _checked(path, text, table)


def _checked(path: Path, text: str, table: Mapping[str, object]) -> Config:
    from pydantic import ConfigDict, TypeAdapter, ValidationError, create_model

    from fleet_protocol.problems import describe
    from fleet_protocol.toml_lines import locate

    strict = ConfigDict(extra="forbid", strict=True)
    keys = {"url": (str, ...), "token": (str | None, None), "token_file": (str | None, None)}
    entry = create_model("Entry", __config__=strict, **keys)  # type: ignore[call-overload]  # fields by name
    file = create_model(
        "File", __config__=strict, context=(str | None, None), contexts=(dict[str, entry], {})
    )
    try:
        file.model_validate(table)
    except ValidationError as error:
        lines = locate(text)
        found = [
            f"{path}:{lines.of(key)}: {'.'.join(map(str, key))}: {what}"
            for key, what in describe(error, file)
        ]
        raise BadSettings("\n".join(found)) from error
    told = TypeAdapter(Config).validate_python(table)
    if told.context is not None:
        told.named(told.context)
    return told


def write(config: Config) -> None:
    """Replaces the file as a whole. OSError where that cannot be."""
    lines = [HEAD]
    if config.context is not None:
        lines.append(f"context = {_text(config.context)}\n")
    for name, context in config.contexts.items():
        given = {"url": context.url, "token": context.token, "token_file": context.token_file}
        lines.append(f"\n[contexts.{_text(name)}]\n")
        lines += [f"{key} = {_text(value)}\n" for key, value in given.items() if value is not None]
    path = config_file()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_suffix(f".{os.getpid()}.tmp")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:
        out.writelines(lines)
        out.flush()
        os.fsync(out.fileno())
    draft.replace(path)


def _text(value: str) -> str:
    """As a TOML string."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
