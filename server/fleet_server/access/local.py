"""The second lock: Host and Origin, on every method and on websockets before they are accepted.

Loopback is no border: a web page open in the operator's browser can reach it, and a name of an attacker's can
be made to resolve to it. Neither can send a Host and an Origin that pass here.
"""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from fleet_protocol.local import is_loopback
from fleet_server.errors import Refusal, WrongHost, WrongOrigin
from fleet_server.problems import render


class LocalOnly:
    """ASGI middleware that refuses foreign Host headers (421) and foreign origins (403).

    `public` is the one Host beside loopback's names: that of a proxy in front.
    """

    def __init__(self, app: ASGIApp, public: str | None = None) -> None:
        self._app, self._public = app, public

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = None if scope["type"] == "lifespan" else _refusal(Headers(scope=scope), self._public)
        if refusal is None:
            await self._app(scope, receive, send)
        else:
            await render(refusal.problem())(scope, receive, send)


def _refusal(headers: Headers, public: str | None) -> Refusal | None:
    host = headers.get("host", "")
    if not _is_ours(host) and (public is None or host.lower() != public.lower()):
        return WrongHost()
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2] != host:
        return WrongOrigin()
    return None


@lru_cache(maxsize=64)
def _is_ours(host: str) -> bool:
    """Asked with every request, and nearly always about the same two names."""
    return is_loopback(_hostname(f"//{host}"))


def _hostname(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
