"""A new secret for an old one, at an agent's start. The old one dies when the coordinator first sees the new."""

from __future__ import annotations

from datetime import datetime

import structlog

from fleet_agent import credential
from fleet_agent.credential import Enrolment
from fleet_agent.errors import AgentError
from fleet_agent.settings import Settings
from fleet_agent.uplink import Refused, Unreachable, Uplink
from fleet_protocol.credentials import make

log = structlog.get_logger()
OLD_DAYS = 30


async def renew(settings: Settings, uplink: Uplink, now: datetime) -> None:
    """Tried once: what runs here is taken up first, and the next start tries again with the same new secret."""
    own = Enrolment.read(settings.state)
    if own is None or own.server != settings.server or own.days_old(now) < OLD_DAYS:
        return
    try:
        fresh = _pending(settings, own) or _made(settings, own, now)
        await uplink.replace_credential(fresh.request())
        credential.settle(settings.state)
    except (Unreachable, Refused, OSError) as error:
        log.warning(f"the credential stays the old one for now: {error}", action="renewal_failed")
        return
    uplink.forget_token()
    log.info("the credential was renewed", action="credential_renewed", credential=fresh.credential_id)


def _pending(settings: Settings, own: Enrolment) -> Enrolment | None:
    try:
        left = Enrolment.read(settings.state, pending=True)
    except AgentError:  # half of it: the coordinator cannot know it, for it is sent when it is whole
        return None
    return left if left is not None and (left.server, left.worker) == (own.server, own.worker) else None


def _made(settings: Settings, own: Enrolment, now: datetime) -> Enrolment:
    fresh = own.model_copy(update={"credential": str(make("agent")), "made_at": now})
    fresh.note_pending(settings.state)
    return fresh
