"""The gate in front of every route: the caller's role first, the body only after it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import Depends, Response
from fastapi.routing import APIRoute
from starlette.requests import HTTPConnection, Request

from fleet_protocol.local import Role
from fleet_server.access.permissions import PERMISSIONS, PUBLIC
from fleet_server.access.tokens import Tokens
from fleet_server.bodies import capped
from fleet_server.errors import NotAuthenticated, NotPermitted

STREAMED = frozenset({"upload_artifact", "upload_blob"})
"""Routes whose body is bounded by a setting of its own while it streams."""


def authorize(connection: HTTPConnection, name: str) -> Role | None:
    """The caller's role, if it may use the route called `name`; raises NotAuthenticated or NotPermitted."""
    allowed = PERMISSIONS[name]
    if allowed is PUBLIC:
        return None
    tokens: Tokens = connection.app.state.services.tokens
    role = tokens.role_of(_token(connection))
    if role is None:
        raise NotAuthenticated
    if role not in allowed:
        raise NotPermitted(
            f"This {role} token may not do this; it takes one of: {', '.join(sorted(allowed))}."
        )
    return role


def _token(connection: HTTPConnection) -> str:
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    return connection.headers.get("x-operator-token", "")


class GuardedRoute(APIRoute):
    """A route that looks at the token before it reads a byte of the body."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        name = self.name
        if name not in PERMISSIONS:
            raise RuntimeError(f"route {name} has no entry in the table of permissions")

        async def guarded(request: Request) -> Response:
            authorize(request, name)
            limit = request.app.state.services.settings.max_body_bytes
            return await handle(request if name in STREAMED else capped(request, limit))

        return guarded


async def _authorize_websocket(connection: HTTPConnection) -> None:
    authorize(connection, connection.scope["endpoint"].__name__)


Guarded = Depends(_authorize_websocket)
"""For websocket routes, which have no route class: `dependencies=[Guarded]`."""


async def _actor(connection: HTTPConnection) -> str:
    return "operator"


Actor = Annotated[str, Depends(_actor)]
"""Who is to stand in the events."""
