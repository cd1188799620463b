"""How a machine becomes a worker, and who else may speak to a coordinator."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from fleet_protocol.credentials import ID_PATTERN
from fleet_protocol.ids import WireSha256, WireWorkerId
from fleet_protocol.wire import Answer, Count, Label, Line, Request, Time

CredentialId = Annotated[str, StringConstraints(pattern=ID_PATTERN)]
LONGEST_JOIN_SECONDS = 7 * 86_400
MOST_USES = 50
MOST_DAYS = 3650


class CredentialRequest(Request):
    """An agent's new secret, of which it tells the hash; the secret itself is only ever sent as a bearer."""

    worker: WireWorkerId
    credential: CredentialId
    secret_sha256: WireSha256


class EnrolRequest(CredentialRequest):
    """Asked for with a join token as bearer. The same again gets the same answer and uses nothing up."""

    name: Label
    protocol: Count
    client_time: Time


class EnrolAnswer(Answer):
    worker: WireWorkerId
    name: str
    credential: CredentialId
    server_time: Time


class JoinRequest(Request):
    seconds: Annotated[float, Field(ge=60, le=LONGEST_JOIN_SECONDS)] = 3600
    uses: Annotated[int, Field(ge=1, le=MOST_USES)] = 1
    names: Label | None = None
    """Only workers called so; `*` and `?` stand for what they do in file names."""


class JoinView(Answer):
    """A join token, without its secret."""

    id: CredentialId
    names: str | None
    uses_left: int
    used_by: tuple[str, ...]
    created_at: Time
    created_by: str
    expires_at: Time
    revoked_at: Time | None = None


class MadeJoin(JoinView):
    """Told once, to whoever made it."""

    token: str
    url: str
    """Where agents reach this coordinator."""


class JoinPage(Answer):
    joins: tuple[JoinView, ...]


class TokenRequest(Request):
    role: Literal["viewer", "operator"]
    name: Label
    days: Annotated[float, Field(gt=0, le=MOST_DAYS)] = 90


class TokenView(Answer):
    """A bearer of a person or an agent, without its secret."""

    id: CredentialId
    role: str
    name: str
    """Of the person, or of the worker."""
    worker: WireWorkerId | None = None
    created_at: Time
    created_by: str
    expires_at: Time | None = None
    revoked_at: Time | None = None


class MadeToken(TokenView):
    """Told once, to whoever made it."""

    token: str


class TokenPage(Answer):
    tokens: tuple[TokenView, ...]


class RevokeRequest(Request):
    reason: Line = ""
