"""Which coordinator to talk to, and with which token."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from fleet_client.errors import BadAddress
from fleet_protocol.local import Role, find_token, is_loopback
from fleet_protocol.version import DEFAULT_URL


@dataclass(frozen=True, slots=True)
class Target:
    """One coordinator: its address without a trailing slash, and the token to show it, if one was found."""

    url: str
    token: str | None = field(default=None, repr=False)


def checked_url(url: str) -> str:
    """`url` in the one form used from here on; BadAddress if it is none, or would send a token in the clear."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise BadAddress(f"{url!r} is not an address: {error}.") from error
    if parts.scheme not in ("http", "https") or not host:
        raise BadAddress(f"{url!r} is not a coordinator's address.", advice=f"give one like {DEFAULT_URL}")
    if parts.scheme == "http" and not is_loopback(host):
        raise BadAddress(
            f"{url} would send your token unprotected over the network: http is for this machine only.",
            advice=f"use https://{parts.netloc}, or a tunnel: ssh -L 8490:127.0.0.1:8490 {host}",
        )
    return url.rstrip("/")


def find_target(url: str | None = None, *, role: Role = "operator") -> Target:
    """The coordinator at `url`, else at `FLEET_URL`, else on this machine, with the best token at hand.

    A token for less than `role` is better than none: the coordinator then says what it does not permit.
    """
    address = checked_url(url or os.environ.get("FLEET_URL") or DEFAULT_URL)
    return Target(address, find_token(address, role) or find_token(address, "viewer"))
