"""How programs of one account on one machine find a coordinator's tokens without any set-up.

A coordinator in `local` mode writes `DATA/tokens/{viewer,operator,agent}` (0600) and notes its data folder
under its port in the account's state folder. Whoever can read that note and those files is the same account.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from platformdirs import user_state_path

Role = Literal["viewer", "operator", "agent"]
ROLES: tuple[Role, ...] = ("viewer", "operator", "agent")


@dataclass(frozen=True, slots=True)
class LocalServer:
    """A coordinator of this account: where it listens and where its data and tokens are."""

    port: int
    data: Path

    def token_file(self, role: Role) -> Path:
        return self.data / "tokens" / role


def note_file(port: int) -> Path:
    """Where a coordinator on `port` notes its data folder; `FLEET_STATE_DIR` moves the folder (tests)."""
    folder = os.environ.get("FLEET_STATE_DIR")
    return (Path(folder) if folder else user_state_path("fleet")) / "servers" / f"{port}.json"


def write_note(server: LocalServer) -> Path:
    """Note a coordinator for this account's other programs; replaces an older note for that port."""
    path = note_file(server.port)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_suffix(f".{os.getpid()}.tmp")
    draft.write_text(json.dumps({"port": server.port, "data": str(server.data.resolve())}) + "\n")
    draft.chmod(0o600)
    draft.replace(path)
    return path


def is_loopback(host: str) -> bool:
    """True for `localhost` and the loopback addresses of both families."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def find_token(url: str, role: Role, environment: dict[str, str] | None = None) -> str | None:
    """The token for `url`: `FLEET_TOKEN` if set, else the token file of a coordinator of this account.

    None when there is none to be found: the address is not loopback, no coordinator of this account
    listens there, or its token files belong to somebody else.
    """
    given = (os.environ if environment is None else environment).get("FLEET_TOKEN")
    if given:
        return given.strip()
    parts = urlsplit(url)
    if not is_loopback(parts.hostname or ""):
        return None
    try:
        note = json.loads(note_file(parts.port or 80).read_text())
        server = LocalServer(port=int(note["port"]), data=Path(str(note["data"])))
        return server.token_file(role).read_text().strip() or None
    except (OSError, ValueError, KeyError, TypeError):
        return None
