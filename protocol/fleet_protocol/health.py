"""Whether a coordinator lives, and whether it can do its work."""

from __future__ import annotations

from typing import Literal

from fleet_protocol.wire import Answer


class Health(Answer):
    status: Literal["ok"] = "ok"


class Part(Answer):
    ok: bool
    detail: str | None = None


class Ready(Answer):
    ready: bool
    version: str
    fleet: str
    parts: dict[str, Part]
