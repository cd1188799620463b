"""The agent's settings, each declared once: type, default, flag, environment variable and help.

The command line fills them in (flag > environment > file > default) and hands one frozen object down.
"""

from __future__ import annotations

import math
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer
from platformdirs import user_state_path

from fleet_agent.errors import UsageError
from fleet_protocol.capability import MOST_CORES, MOST_JOBS
from fleet_protocol.local import is_loopback
from fleet_protocol.version import DEFAULT_URL


def _option(variable: str, text: str) -> object:
    return typer.Option(envvar=variable, help=text, show_envvar=True)


def _number_or_auto(text: str) -> int | None:
    if text == "auto":
        return None
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter("a number or `auto`") from None


class BadSettings(UsageError):
    """Settings that make no sense: which fields, and why."""

    def __init__(self, problems: tuple[tuple[str, str], ...]) -> None:
        super().__init__("\n".join(f"--{name.replace('_', '-')} {wrong}" for name, wrong in problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Settings:
    """What the operator of this machine decides."""

    server: Annotated[str, _option("FLEET_URL", "The coordinator's address.")] = DEFAULT_URL
    state: Annotated[
        Path, _option("FLEET_AGENT_STATE", "Folder for this agent's identity, running attempts and results.")
    ] = field(default_factory=lambda: user_state_path("fleet") / "agent")
    name: Annotated[str, _option("FLEET_AGENT_NAME", "Name that the manifest's policy matches.")] = field(
        default_factory=platform.node
    )
    data: Annotated[
        Path | None,
        _option("FLEET_AGENT_DATA", "Data folder, given as FLEET_DATA to jobs that name no data set."),
    ] = None
    cores: Annotated[int | None, _option("FLEET_AGENT_CORES", "Cores to offer; default all.")] = None
    ram_gib: Annotated[
        float | None, _option("FLEET_AGENT_RAM_GIB", "Memory to offer, in GiB; default all.")
    ] = None
    gpus: Annotated[
        str | None,
        _option("FLEET_AGENT_GPUS", "CUDA devices to offer, such as 0,1; `none` for none; default all."),
    ] = None
    models: Annotated[
        str | None,
        _option("FLEET_AGENT_MODELS", "Models permitted here, such as gbt,mlp; default all installed."),
    ] = None
    allow_commands: Annotated[
        bool | None,
        _option(
            "FLEET_AGENT_ALLOW_COMMANDS",
            "Run the manifest's own programs; default only for this account's own coordinator.",
        ),
    ] = None
    cache_gib: Annotated[
        float, _option("FLEET_AGENT_CACHE_GIB", "Room for data sets and sources that are kept, in GiB.")
    ] = 20.0
    checkpoint_every: Annotated[
        float,
        _option("FLEET_AGENT_CHECKPOINT_EVERY", "Seconds between uploads of a trainer's new checkpoint."),
    ] = 600.0
    max_jobs: Annotated[
        int | None,
        typer.Option(
            envvar="FLEET_AGENT_MAX_JOBS",
            help="Jobs to run at once; `auto`: as many as fit by what they declare, at most one a core.",
            parser=_number_or_auto,
            metavar="NUMBER|auto",
        ),
    ] = 1
    python: Annotated[str, _option("FLEET_AGENT_PYTHON", "Interpreter that the trainer is installed in.")] = (
        sys.executable
    )
    git: Annotated[
        Path | None,
        _option("FLEET_AGENT_GIT", "Checkout whose commit is reported; default the trainer's own."),
    ] = None
    spool_gib: Annotated[
        float | None,
        _option(
            "FLEET_AGENT_SPOOL_GIB",
            "Disk for logs not sent yet, in GiB; default 8, or a tenth of the disk where that is less.",
        ),
    ] = None
    grace: Annotated[
        float, _option("FLEET_AGENT_GRACE", "Seconds from SIGTERM to SIGKILL for a trainer.")
    ] = 30.0

    def __post_init__(self) -> None:
        if problems := tuple(self._problems()):
            raise BadSettings(problems)

    def _problems(self) -> Iterator[tuple[str, str]]:
        """Everything that is wrong: which field, and what."""
        if wrong := _wrong_url(self.server):
            yield "server", wrong
        if not self.name or len(self.name) > 200 or not self.name.isprintable():
            yield "name", "must have 1 to 200 printable characters."
        for field_name, value, most in (
            ("cores", self.cores, MOST_CORES),
            ("max_jobs", self.max_jobs, MOST_JOBS),
        ):
            if value is not None and not 1 <= value <= most:
                yield field_name, f"must be at least 1 and at most {most}, not {value}."
        for field_name in ("grace", "ram_gib", "spool_gib"):
            amount: float | None = getattr(self, field_name)
            if amount is not None and not 0 < amount < math.inf:  # not a number is neither
                yield field_name, f"must be a number above 0, not {amount:g}."
        if self.data is not None and not self.data.is_dir():
            yield "data", f"{self.data} is not a folder; prepare the data there or name another."
        if not all(number.isdecimal() for number in self._device_words):
            yield "gpus", f"takes device numbers such as 0,1 or `none`, not {self.gpus!r}."

    @property
    def runs_commands(self) -> bool:
        """Whether the manifest's own programs may run here: by order, or for this account's own coordinator.

        Who has no token in its environment has the one of a file that only this account can read.
        """
        if self.allow_commands is not None:
            return self.allow_commands
        return is_loopback(urlsplit(self.server).hostname or "") and not os.environ.get("FLEET_TOKEN")

    @property
    def permitted(self) -> frozenset[str] | None:
        """Models that this host permits; None permits every installed one."""
        if self.models is None:
            return None
        return frozenset(name.strip() for name in self.models.split(",") if name.strip())

    @property
    def spool_bytes(self) -> int | None:
        """None leaves it to the disk's size."""
        return None if self.spool_gib is None else int(self.spool_gib * 2**30)

    @property
    def devices(self) -> tuple[int, ...] | None:
        """CUDA device numbers to offer; None offers all."""
        return None if self.gpus is None else tuple(map(int, self._device_words))

    @property
    def _device_words(self) -> list[str]:
        words = (self.gpus or "none").strip().lower()
        return [] if words in ("", "none") else [word.strip() for word in words.split(",")]


def _wrong_url(url: str) -> str | None:
    """Why `url` is no coordinator's address, or would send a token in the clear."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        return f"{url!r} is not an address: {error}."
    if parts.scheme not in ("http", "https") or not host:
        return f"{url!r} is not a coordinator's address; give one like {DEFAULT_URL}."
    if parts.scheme == "http" and not is_loopback(host):
        return (
            f"{url} would send your token unprotected over the network: http is for this machine only; "
            f"use https://{parts.netloc}, or a tunnel: ssh -L 8490:127.0.0.1:8490 {host}"
        )
    return None


@dataclass(frozen=True, slots=True)
class Timing:
    """How long the loops wait, in seconds. Tests shorten these; nobody else needs to."""

    claim_wait: float = 30.0
    """How long the coordinator may hold a claim while nothing fits."""
    retry_ceiling: float = 30.0
    log_poll: float = 0.05
    """How often a growing spool is looked at; part of what a line takes to reach a viewer."""
    log_patience: float = 3.0
    """How long a result waits for its log to arrive; afterwards the log goes on in the background."""
    http_poll: float = 0.5
    """The same where logs go by PATCH, a request each time."""
    http_logs: float = 600.0
    """How long logs go by PATCH after the websocket could not be had, before it is tried again."""
    progress: float = 2.0
    """New progress is told ahead of the next heartbeat, but not more often than this."""
    quiet: float = 5.0
    """A checkpoint folder in which nothing changed for so long holds whole files."""
    farewell: float = 10.0
    """How long a draining agent tries to hand in results while no upload moves; what is left stays in its folder."""
    twin_patience: float = 90.0
    """How long a worker of the same identity may be this machine's last life, which its coordinator still sees."""
