"""The gate in front of every route: the caller's role first, the body only after it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, Response
from fastapi.routing import APIRoute
from starlette.requests import HTTPConnection, Request
from starlette.websockets import WebSocket

from fleet_server.access.bearers import Caller
from fleet_server.access.permissions import PERMISSIONS, PUBLIC
from fleet_server.bodies import capped
from fleet_server.errors import (
    AgentRevoked,
    Malformed,
    NotAuthenticated,
    NotPermitted,
    TokenInUrl,
    TokenRevoked,
)

if TYPE_CHECKING:
    from fleet_server.services import Services

STREAMED = frozenset({"upload_artifact", "upload_blob"})
"""Routes whose body is bounded by a setting of its own while it streams."""
NOBODY = Caller("viewer", "nobody")
"""At a public route."""
_PRESENT: ContextVar[tuple[Caller, Services]] = ContextVar("present")


def authorize(connection: HTTPConnection, name: str) -> Caller:
    """Whoever may use the route called `name`; a refusal otherwise."""
    allowed = PERMISSIONS[name]
    token = bearer_of(connection)
    if allowed is PUBLIC:
        return NOBODY
    services: Services = connection.app.state.services
    caller = services.access.bearers.identify(token, services.clock.now()) if token else None
    if caller is None:
        raise NotAuthenticated
    if caller.role not in allowed:
        raise NotPermitted(
            f"This {caller.role} token may not do this; it takes one of: {', '.join(sorted(allowed))}."
        )
    return caller


def bearer_of(connection: HTTPConnection) -> str:
    """The token that was sent; refused where it was sent twice, or where everybody can read it."""
    shown = connection.headers.getlist("authorization")
    if len(shown) > 1:
        raise Malformed("There are two Authorization headers; send one.")
    if any(key in connection.query_params for key in ("token", "access_token")):
        raise TokenInUrl
    scheme, _, token = (shown or [""])[0].partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    return connection.headers.get("x-operator-token", "")


class GuardedRoute(APIRoute):
    """A route that looks at the token before it reads a byte of the body, and lets an agent speak for itself alone."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, _own(endpoint), **options)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        name = self.name
        if name not in PERMISSIONS:
            raise RuntimeError(f"route {name} has no entry in the table of permissions")

        async def guarded(request: Request) -> Response:
            caller = await _let_in(request, name)
            services: Services = request.app.state.services
            _PRESENT.set((caller, services))
            limit = services.settings.max_body_bytes
            answer = await handle(request if name in STREAMED else capped(request, limit))
            if services.access.bearers.is_cut(caller):  # while it was waiting
                raise AgentRevoked if caller.worker else TokenRevoked
            return answer

        return guarded


def _own(endpoint: Callable[..., Any]) -> Callable[..., Any]:
    """The endpoint, for a worker's own credential only where worker and attempt are its own."""
    if not {"request", "attempt"} & inspect.signature(endpoint).parameters.keys():
        return endpoint

    @wraps(endpoint)
    async def own(*given: Any, **named: Any) -> Any:
        caller, services = _PRESENT.get()
        if caller.worker is not None:
            for value in named.values():
                if getattr(value, "worker", caller.worker) != caller.worker:
                    raise NotPermitted("This credential is another worker's.")
            attempt = named.get("attempt")
            if attempt is not None and not await services.workers.holds(caller.worker, attempt):
                raise NotPermitted("That attempt is another worker's.")
        return await endpoint(*given, **named)

    return own


async def _let_in(connection: HTTPConnection, name: str) -> Caller:
    caller = connection.state.caller = authorize(connection, name)
    if caller.credential is not None:
        await connection.app.state.services.access.settle(caller)
    return caller


async def _authorize_websocket(websocket: WebSocket) -> None:
    caller = await _let_in(websocket, websocket.scope["endpoint"].__name__)
    websocket.app.state.services.access.bearers.enter(caller, websocket)


Guarded = Depends(_authorize_websocket)
"""For websocket routes, which have no route class: `dependencies=[Guarded]`."""


async def _caller(connection: HTTPConnection) -> Caller:
    caller: Caller = connection.state.caller
    return caller


CallerOf = Annotated[Caller, Depends(_caller)]


async def _actor(connection: HTTPConnection) -> str:
    actor: str = connection.state.caller.actor
    return actor


Actor = Annotated[str, Depends(_actor)]
"""Who is to stand in the events."""
