"""Which coordinator to talk to, and with which token."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from fleet_client import contexts
from fleet_client.errors import BadAddress
from fleet_protocol.credentials import PREFIXES
from fleet_protocol.local import Role, find_token, is_loopback
from fleet_protocol.version import DEFAULT_URL

VIEWERS = PREFIXES["viewer"] + "_"


@dataclass(frozen=True, slots=True)
class Target:
    """One coordinator: its address without a trailing slash, and the token to show it, if one was found."""

    url: str
    token: str | None = field(default=None, repr=False)
    read_only: bool = False
    """Only a viewer's token was found, as far as its text tells."""
    context: str = ""
    """The name under which the settings file has it."""
    origin: str = "default"
    """Who said the address."""
    token_origin: str = ""


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


def find_target(url: str | None = None, *, role: Role = "operator", context: str | None = None) -> Target:
    """The coordinator that is meant, with the best token at hand. BadAddress or BadSettings where there is none.

    By `context` (with its own token whatever the environment has), else by `url`, `FLEET_URL`, `FLEET_CONTEXT`, the
    settings file's `context`, else on this machine. A token for less than `role` is better than none: the coordinator
    then says what it does not permit.
    """
    kept = contexts.read()
    name, address, origin = _meant(kept, url, context)
    address = checked_url(address)
    mine: dict[str, str] | None = (
        {} if context else None
    )  # of the environment, only where no context was asked for by name
    given = None if context else os.environ.get("FLEET_TOKEN")
    own = kept.contexts[name].read_token() if name and not given else None
    if given or own:
        told, told_by = (given or own or "").strip(), "FLEET_TOKEN" if given else "context"
        return Target(address, told, told.startswith(VIEWERS), name, origin, told_by)
    for least in dict.fromkeys((role, "viewer")):
        if token := find_token(address, least, mine):
            return Target(address, token, least != role, name, origin, f"{least}'s token of this machine")
    return Target(address, None, False, name, origin)


def _meant(kept: contexts.Config, url: str | None, context: str | None) -> tuple[str, str, str]:
    """The context's name, empty for none, the address, and who said so."""
    told = os.environ.get("FLEET_URL")
    if context:
        return context, kept.named(context).url, "--context"
    if url or told:
        at = str(url or told)
        name = next((one for one, entry in kept.contexts.items() if entry.url == at.rstrip("/")), "")
        return name, at, "FLEET_URL" if at == told else "--url"
    if name := os.environ.get("FLEET_CONTEXT") or "":
        return name, kept.named(name).url, "FLEET_CONTEXT"
    if kept.context:
        return kept.context, kept.named(kept.context).url, str(contexts.config_file())
    return "", DEFAULT_URL, "default"
