"""What a service manager is to be given and told, as values: shown by `--dry-run`, carried out by `install`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePath

NAME = "fleet-agent"


@dataclass(frozen=True, slots=True)
class Service:
    """An agent that is to run as a service."""

    command: tuple[str, ...]
    """`fleet-agent run` with its flags, as an argument list."""
    state: PurePath
    home: PurePath
    """Of the account that enrols."""
    user: str
    """That account."""
    has_gpu: bool = False


@dataclass(frozen=True, slots=True)
class File:
    path: PurePath
    text: str
    mode: int = 0o644


Command = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """The steps in their order. Each may be done twice."""

    account: str | None
    """An account that is the service's own; None: that of whoever enrols."""
    files: tuple[File, ...]
    start: tuple[Command, ...]
    stop: tuple[Command, ...]
    """Ends it and keeps it from starting; before its files are removed."""
    forget: tuple[Command, ...]
    """After its files are gone."""
    status: Command
    """Succeeds while it runs."""
    words: Command
    """Tells a person why it does not run."""
    context: Command = ()
    """What makes the command behind it run as the service would; nothing: a child of ours does."""

    @property
    def is_installed(self) -> bool:
        return any(Path(file.path).exists() for file in self.files)
