"""Who is calling: the local tokens and the issued credentials, in memory, so that a request costs no query."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from hmac import compare_digest
from weakref import WeakSet

from starlette.websockets import WebSocket

from fleet_protocol.credentials import MalformedToken, is_credential, parse
from fleet_protocol.ids import WorkerId
from fleet_protocol.local import ROLES, Role
from fleet_server.access.queries import Held
from fleet_server.access.tokens import Tokens
from fleet_server.errors import AgentRevoked, NotAuthenticated, TokenExpired, TokenMalformed, TokenRevoked

REVOKED = 4403
CUT_SECONDS = 2


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever was let in."""

    role: Role
    actor: str
    """Who is to stand in the events."""
    worker: WorkerId | None = None
    """An agent's own credential speaks for this worker alone; the local one for any of the account's."""
    credential: str | None = None


@dataclass(slots=True)
class Bearers:
    """The tokens that open doors, and who came in by them."""

    local: Tokens
    held: dict[str, Held] = field(default_factory=dict)
    _sockets: defaultdict[str, WeakSet[WebSocket]] = field(default_factory=lambda: defaultdict(WeakSet))
    _waiting: defaultdict[str, set[asyncio.Future[None]]] = field(default_factory=lambda: defaultdict(set))

    def put(self, rows: Iterable[Held]) -> None:
        self.held = {**self.held, **{row.id: row for row in rows}}

    def identify(self, token: str, now: datetime) -> Caller:
        """Whose token it is; a refusal says what is the matter with it."""
        if not is_credential(token):
            if (local := self.local.role_of(token)) is None:
                raise NotAuthenticated
            return Caller(local, local)
        try:
            shown = parse(token)
        except MalformedToken:
            raise TokenMalformed from None
        held = self.held.get(shown.id)
        known = held is not None and compare_digest(held.secret_sha256, shown.secret_sha256)
        role = next((one for one in ROLES if one == shown.kind), None)
        if held is None or not known or role is None or held.kind != role:
            raise NotAuthenticated
        if held.revoked_at is not None:
            raise AgentRevoked if held.kind == "agent" else TokenRevoked
        if held.expires_at is not None and held.expires_at <= now:
            raise TokenExpired
        return Caller(role, f"{role}:{held.name}", held.worker_id, held.id)

    def enter(self, caller: Caller, websocket: WebSocket) -> None:
        """A connection that outlives its request, to be cut when the credential is revoked."""
        if caller.credential is not None:
            self._sockets[caller.credential].add(websocket)

    def wait(self, caller: Caller, gone: asyncio.Future[None]) -> None:
        """The same for a long poll: `gone` is done then."""
        if caller.credential is not None:
            waiting = self._waiting[caller.credential]
            waiting.add(gone)
            gone.add_done_callback(waiting.discard)

    def is_cut(self, caller: Caller) -> bool:
        held = self.held.get(caller.credential or "")
        return held is not None and held.revoked_at is not None

    async def cut(self, credentials: Iterable[str]) -> None:
        """Let go of everybody who came in by these; to be called once they are revoked."""
        closing = []
        for one in credentials:
            for gone in [*self._waiting.pop(one, ())]:
                gone.cancel()
            closing += [_close(websocket) for websocket in self._sockets.pop(one, ())]
        await asyncio.gather(*closing)


async def _close(websocket: WebSocket) -> None:
    try:
        async with asyncio.timeout(CUT_SECONDS):  # one that takes nothing must not hold up the others
            await websocket.close(REVOKED, "revoked")
    except (RuntimeError, TimeoutError, OSError):
        pass  # closed already, or given up by the server's own limits
