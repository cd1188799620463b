"""The coordinator's settings: flags beat `FLEET_SERVER_*` environment variables beat defaults."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from platformdirs import user_data_path
from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from fleet_protocol.version import DEFAULT_PORT

Seconds = Annotated[float, Field(gt=0, le=7 * 86_400)]


class Settings(BaseSettings):
    """Everything an operator can set, frozen and handed in; nobody imports a global."""

    model_config = SettingsConfigDict(env_prefix="FLEET_SERVER_", frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = DEFAULT_PORT
    """0 takes a free one."""
    public_url: str | None = None
    """Where others reach this coordinator, through a proxy on this machine that speaks TLS; None: they do not."""
    data: Path = user_data_path("fleet") / "server"
    """Database, logs, artifacts and local tokens."""
    manifest: Path | None = None
    """None: /etc/fleet/training_manifest.toml, else ./training_manifest.toml, else start empty."""
    database_url: str | None = None
    """None: SQLite in the data folder."""

    stale_after: Seconds = 600
    """Lease: how long an attempt may go unheard before its job goes to another worker."""
    heartbeat: Seconds = 30
    live_after: Seconds = 60
    """A worker unheard for longer is not live: nothing is matched to it. Running attempts keep their lease."""
    start_deadline: Seconds = 120
    """A claimed job whose worker never reports the start goes back to the queue."""
    sweep: Seconds = 5
    flush: Seconds = 5
    """How often heartbeats, kept in memory, are written to the database."""
    max_lost: Annotated[int, Field(ge=1, le=1000)] = 5
    """Lost leases after which a job is failed rather than tried again."""
    backoff: Seconds = 30
    """Wait before the second attempt after an error; doubles each time, at most `backoff_cap`."""
    backoff_cap: Seconds = 1800
    log_sweep: Seconds = 30
    """How often logs of attempts that are over are closed, and old ones let go."""
    log_days: Annotated[float, Field(gt=0, le=36_500)] | None = 90
    """Of a log that is older only the beginning and the end are kept. None: of none for its age."""
    log_gib: Annotated[float, Field(gt=0)] | None = 20
    """Where logs take more than this, the oldest that are over are let go. None: however much it is."""
    log_reserve_mib: Annotated[int, Field(ge=0)] = 256
    """No log is taken while the disk has less free: the database must not die of what trainers print."""
    on_failure: tuple[str, ...] = ()
    """A command, as a list of its arguments, to run for each job that failed for good; the event comes on its stdin."""
    max_body_bytes: Annotated[int, Field(ge=1024)] = 8 * 1024 * 1024
    """Largest JSON body; uploads of artifacts are streams and have their own limit."""
    max_artifact_bytes: Annotated[int, Field(ge=1)] = 64 * 1024**3

    @field_validator("on_failure")
    @classmethod
    def _can_be_run(cls, command: tuple[str, ...]) -> tuple[str, ...]:
        if command and shutil.which(command[0]) is None:
            raise ValueError(f"there is no program {command[0]!r}")
        return command

    @field_validator("public_url")
    @classmethod
    def _is_safe(cls, url: str | None) -> str | None:
        if url is not None and not (url.startswith("https://") and urlsplit(url).hostname):
            raise ValueError("it is https://HOST, the address of the proxy in front")
        return url and url.rstrip("/")

    @property
    def public_host(self) -> str | None:
        """The Host that a proxy passes on."""
        return urlsplit(self.public_url).netloc if self.public_url else None

    @property
    def url(self) -> str:
        return self.database_url or f"sqlite:///{self.data / 'fleet.sqlite3'}"
