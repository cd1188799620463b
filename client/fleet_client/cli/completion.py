"""What a shell offers behind Tab: jobs, workers, fleets. Silent where nothing answers in time.

A shell starts the program anew for each Tab, and the client's libraries take longer to load than a person waits:
the two questions are asked with the standard library, without proxies.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode, urlsplit

from fleet_client import contexts
from fleet_client.errors import FleetError
from fleet_client.settings import find_target
from fleet_client.text import printable

PATIENCE_SECONDS = 0.5
MOST = 200
Offer = tuple[str, str]
"""What is typed, and what a shell that can shows beside it."""


def completing_jobs(*states: str) -> Callable[[str], list[Offer]]:
    """By name, or by id where a name is no single word or is not the only one; only jobs in these states, if any."""

    def offers(incomplete: str) -> list[Offer]:
        query = [("q", incomplete)] * bool(incomplete) + [("status", state) for state in states]
        jobs = list(_rows("jobs", [*query, ("limit", str(MOST)), ("sort", "-updated")]))
        names = [job["name"] for job in jobs]
        found = []
        for job in jobs:
            name, said = job["name"], f"{job['status']}  {job['model']}"
            is_one_word = name.isprintable() and not set(name) & set(" '\"\\$`*?[]{}()<>|&;!~")
            if is_one_word and names.count(name) == 1 and name.startswith(incomplete):
                found.append((name, said))
            elif job["job_id"].startswith(incomplete) or not is_one_word:
                found.append((job["job_id"], printable(f"{name}  {said}")))
        return [offer for offer in found if offer[0].startswith(incomplete)]

    return offers


def workers(incomplete: str) -> list[Offer]:
    found = ((worker["name"], "live" if worker["live"] else "away") for worker in _rows("workers", ()))
    return [offer for offer in found if offer[0].startswith(incomplete) and offer[0].isprintable()]


def fleets(incomplete: str) -> list[Offer]:
    """Contexts by name; they are in a file of this account."""
    with suppress(FleetError):
        kept = contexts.read().contexts
        return [(name, one.url) for name, one in kept.items() if name.startswith(incomplete)]
    return []


def _rows(what: str, query: Sequence[tuple[str, str]]) -> Iterator[Mapping[str, Any]]:
    """The first page of a list; nothing where there is no coordinator, no token or no time.

    A redirection is not followed: the token would go along.
    """
    from http.client import HTTPConnection, HTTPException, HTTPSConnection

    with suppress(FleetError, OSError, HTTPException, ValueError, KeyError, TypeError):
        target = find_target(role="viewer")
        place = urlsplit(target.url)
        kind = HTTPSConnection if place.scheme == "https" else HTTPConnection
        with closing(kind(place.netloc, timeout=PATIENCE_SECONDS)) as coordinator:
            asked = {"Authorization": f"Bearer {target.token}"}
            coordinator.request("GET", f"{place.path}/v1/{what}?{urlencode(query)}", headers=asked)
            answer = coordinator.getresponse()
            yield from json.load(answer)[what] if answer.status == HTTPStatus.OK else ()
