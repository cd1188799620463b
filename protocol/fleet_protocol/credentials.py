"""The tokens that a coordinator issues: `KIND_ID_SECRET_CHECK`, or with a certificate's pin before the check.

Base32 in lower case, so that `_` only separates. The id is public, the secret has 256 bits and is kept nowhere but
with its owner: a coordinator stores its hash. The check tells a token that was cut short from a wrong one without
asking anybody.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["join", "agent", "operator", "viewer"]
PREFIXES: dict[Kind, str] = {"join": "fj1", "agent": "fa1", "operator": "fo1", "viewer": "fv1"}
KINDS: dict[str, Kind] = {prefix: kind for kind, prefix in PREFIXES.items()}
ID_PATTERN = r"^[a-z2-7]{8}$"


class MalformedToken(ValueError):
    """No whole token: cut short, or mistyped."""


@dataclass(frozen=True, slots=True)
class Credential:
    """A token in its parts; its text is `str` of it."""

    kind: Kind
    id: str
    secret: str = field(repr=False)
    pin: str | None = None
    """SHA-256 of the coordinator's certificate (DER); None: the system's trust decides."""

    @property
    def secret_sha256(self) -> str:
        """What a coordinator keeps: hex, of the secret's text."""
        return hashlib.sha256(self.secret.encode("ascii")).hexdigest()

    def __str__(self) -> str:
        parts = [PREFIXES[self.kind], self.id, self.secret, *([self.pin] if self.pin else [])]
        head = "_".join(parts)
        return f"{head}_{_check(head)}"


def make(kind: Kind, pin: str | None = None) -> Credential:
    return Credential(kind, base32(secrets.token_bytes(5)), base32(secrets.token_bytes(32)), pin)


def is_credential(token: str) -> bool:
    """Whether it is meant as one of these; a coordinator's local tokens look otherwise."""
    return token.partition("_")[0] in KINDS


def parse(token: str) -> Credential:
    """MalformedToken where it is none, or not whole."""
    head, _, check = token.rpartition("_")
    parts = head.split("_")
    if len(parts) not in (3, 4) or parts[0] not in KINDS or not token.isascii() or check != _check(head):
        raise MalformedToken("this is no whole token: copy all of it")
    return Credential(KINDS[parts[0]], *parts[1:])


def base32(data: bytes) -> str:
    return base64.b32encode(data).decode("ascii").rstrip("=").lower()


def _check(head: str) -> str:
    return base32(hashlib.sha256(head.encode("utf-8", "surrogatepass")).digest())[:6]
