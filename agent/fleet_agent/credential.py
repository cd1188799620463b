"""Who this agent is to its coordinator: STATE/credential, which this account alone can read.

A new secret is on disk, as STATE/credential.new, before the coordinator hears of it: whatever is lost on the way, the
same request can be made again.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from fleet_agent.durable import sync_folder, write_durably
from fleet_agent.errors import AgentError, UsageError
from fleet_agent.settings import Settings
from fleet_protocol.credentials import MalformedToken, parse
from fleet_protocol.enrolment import CredentialRequest
from fleet_protocol.ids import Sha256, WorkerId
from fleet_protocol.local import find_token
from fleet_protocol.wire import Time


class Enrolment(BaseModel):
    """What was agreed with a coordinator."""

    model_config = ConfigDict(frozen=True)

    server: str
    worker: WorkerId
    name: str
    credential: str
    """The bearer token; only its hash ever left this machine, until it is used."""
    pin: str | None = None
    """SHA-256 of the coordinator's certificate; None: the system's trust decides."""
    made_at: Time

    @property
    def secret_sha256(self) -> Sha256:
        return Sha256(parse(self.credential).secret_sha256)

    @property
    def credential_id(self) -> str:
        return parse(self.credential).id

    def request(self) -> CredentialRequest:
        """What the coordinator gets to know of the secret."""
        return CredentialRequest(
            worker=self.worker, credential=self.credential_id, secret_sha256=self.secret_sha256
        )

    def days_old(self, now: datetime) -> int:
        return (now - self.made_at).days

    @classmethod
    def read(cls, state: Path, *, pending: bool = False) -> Self | None:
        """None where nothing was agreed. AgentError where something was, and cannot be read any more."""
        path = _file(state, pending=pending)
        try:
            return cls.model_validate_json(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except PermissionError:
            raise AgentError(f"{path} belongs to another account; use that one, or sudo.") from None
        except (OSError, ValidationError):
            raise AgentError(f"{path} is damaged; remove it, and enrol this machine anew.") from None

    def note_pending(self, state: Path) -> None:
        write_durably(_file(state, pending=True), self.model_dump_json(), 0o600)


def pin_of(token: str) -> str | None:
    """The certificate's hash in a join token. UsageError where it is no whole join token."""
    try:
        shown = parse(token)
    except MalformedToken:
        shown = None
    if shown is None or shown.kind != "join":
        raise UsageError(
            "token_malformed: this is no whole join token; copy all of the line that `fleet join new` printed."
        )
    return shown.pin


def settle(state: Path) -> None:
    """The coordinator knows the pending one: it is the one from now on."""
    _file(state, pending=True).replace(_file(state))
    sync_folder(state)


def forget(state: Path) -> None:
    _file(state).unlink(missing_ok=True)
    forget_pending(state)


def forget_pending(state: Path) -> None:
    _file(state, pending=True).unlink(missing_ok=True)


def bearer(settings: Settings) -> Callable[[], str | None]:
    """Finds the token for the settings' coordinator: a credential is shown to the one that it is from, and no other."""

    def find() -> str | None:
        enrolment = None if os.environ.get("FLEET_TOKEN") else Enrolment.read(settings.state)
        if enrolment is not None and enrolment.server == settings.server:
            return enrolment.credential
        return find_token(settings.server, "agent")

    return find


def pin_for(settings: Settings) -> str | None:
    """The certificate that the settings' coordinator showed at enrolment."""
    own = Enrolment.read(settings.state)
    return own.pin if own is not None and own.server == settings.server else None


def _file(state: Path, *, pending: bool = False) -> Path:
    return state / ("credential.new" if pending else "credential")
