"""One websocket connection: its messages in order, and its refusals as this package's errors."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError, InvalidHandshake, InvalidStatus, WebSocketException

from fleet_client.answers import problem_of
from fleet_client.errors import Unreachable, refused
from fleet_client.settings import Target
from fleet_protocol.local import is_loopback

OPEN_SECONDS = 10
PING_SECONDS = 20
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""A snapshot of 100,000 jobs has about half of it."""


def websocket_url(target: Target, path_and_query: str) -> str:
    parts = urlsplit(target.url)
    scheme = "wss" if parts.scheme == "https" else "ws"
    return urlunsplit((scheme, parts.netloc, parts.path, "", "")) + path_and_query


async def messages(target: Target, path_and_query: str) -> AsyncIterator[str | bytes]:
    """Every message until the coordinator closes; Unreachable if the connection breaks instead.

    A refusal before the first message is a `Refused`, just as over plain HTTP.
    """
    url = websocket_url(target, path_and_query)
    headers = {"Authorization": f"Bearer {target.token}"} if target.token else {}
    proxy: Literal[True] | None = None if is_loopback(urlsplit(url).hostname or "") else True
    try:
        async with connect(
            url,
            additional_headers=headers,
            proxy=proxy,
            open_timeout=OPEN_SECONDS,
            ping_interval=PING_SECONDS,
            max_size=MAX_MESSAGE_BYTES,
        ) as socket:
            async for message in socket:
                yield message
    except InvalidStatus as error:
        status, body = error.response.status_code, bytes(error.response.body or b"")
        raise refused(problem_of(status, body, target.url)) from error
    except ConnectionClosedError as error:
        raise Unreachable(f"The connection to {target.url} broke: {error}.") from error
    except (OSError, TimeoutError, ssl.SSLError, InvalidHandshake, WebSocketException) as error:
        raise Unreachable(f"No answer from {target.url}: {str(error) or type(error).__name__}.") from error
