"""The local mode's tokens: one per role, made at first start, readable by this account alone."""

from __future__ import annotations

import hashlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from fleet_protocol.local import ROLES, Role


@dataclass(frozen=True, slots=True)
class Tokens:
    """SHA-256 of each role's token; the tokens themselves are only in their files."""

    hashes: dict[bytes, Role]

    def role_of(self, token: str) -> Role | None:
        return self.hashes.get(_digest(token))


def open_tokens(folder: Path) -> Tokens:
    """Read the token files in `folder`, making what is missing (folder 0700, files 0600)."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return Tokens({_digest(_read_or_make(folder / role)): role for role in ROLES})


def _read_or_make(path: Path) -> str:
    try:
        existing = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        existing = ""
    if existing:
        path.chmod(0o600)
        return existing
    token = f"fleet_{secrets.token_urlsafe(32)}"
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f"{token}\n")
    return token


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
