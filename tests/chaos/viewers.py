"""Who watches the fleet: viewers of logs and events that come and go, and check every byte and every id."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import httpx
from pydantic import TypeAdapter
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from tests.chaos.fleet import Fleet
from tests.chaos.trainer import mistake

Word = dict[str, Any]
to_word: TypeAdapter[Word] = TypeAdapter(Word)
AWAY = (OSError, WebSocketException, httpx.HTTPError, TimeoutError)


@dataclass
class Reading:
    """One viewer's place in one log."""

    job: str
    attempt: str
    cursor: int = 0
    is_over: bool = False


def holes(headers: Mapping[str, str]) -> list[tuple[int, int]]:
    """`Fleet-Log-Holes`: from, to."""
    spans = [part.strip().partition("-") for part in headers.get("Fleet-Log-Holes", "").split(",") if part]
    return [(int(start), int(end)) for start, _, end in spans]


def first_mistake(attempt: str, offset: int, data: bytes, gaps: list[tuple[int, int]]) -> int | None:
    """Like `trainer.mistake`, leaving out the declared holes."""
    at = offset
    for start, end in [*gaps, (offset + len(data), offset + len(data))]:
        start = max(at, min(start, offset + len(data)))
        wrong = mistake(attempt, at, data[at - offset : start - offset])
        if wrong is not None:
            return wrong
        at = max(start, min(end, offset + len(data)))
    return None


class LogViewer:
    """Follows one log after the other, on and off. `patience` is how long it does not read, if it stalls."""

    def __init__(self, fleet: Fleet, luck: random.Random, *, stalls: bool = False) -> None:
        self._fleet = fleet
        self._luck = luck
        self._stalls = stalls
        self._socket = fleet.url.replace("http", "ws", 1)
        self.bytes = 0

    async def run(self) -> None:
        async with self._fleet.client("viewer") as http:
            while True:
                try:
                    await self._watch(http)
                except AWAY:
                    await asyncio.sleep(self._luck.uniform(0.1, 0.5))

    async def _watch(self, http: httpx.AsyncClient) -> None:
        jobs = (await http.get("/v1/jobs", params={"limit": 1000})).raise_for_status().json()["jobs"]
        tried = [job for job in jobs if job["attempt"]]
        alive = [job for job in tried if job["status"] == "running"] or tried
        if not alive:
            await asyncio.sleep(0.2)
            return
        job = self._luck.choice(alive)
        reading = Reading(job["job_id"], job["attempt"])
        for _ in range(self._luck.randrange(1, 8)):  # it comes and goes, and goes on where it was
            if reading.is_over:
                return
            way = self._over_http(http, reading) if self._luck.random() < 0.3 else self._over_socket(reading)
            try:
                await way
            except AWAY:
                await asyncio.sleep(self._luck.uniform(0.1, 1))
            self._fleet.sometimes["viewer resumed by cursor"] += reading.cursor > 0

    async def _over_http(self, http: httpx.AsyncClient, reading: Reading) -> None:
        for _ in range(self._luck.randrange(1, 10)):
            path = f"/v1/attempt/{reading.attempt}/log"
            answer = await http.get(path, params={"offset": reading.cursor})
            if answer.status_code == 404:  # an older database does not know it
                reading.is_over = True
                return
            answer.raise_for_status()
            self._take(reading, answer.content, holes(answer.headers))
            if answer.headers["Fleet-Log-Open"] == "?0" and not answer.content:
                reading.is_over = True
                return
            await asyncio.sleep(self._luck.uniform(0, 0.3))

    async def _over_socket(self, reading: Reading) -> None:
        url = f"{self._socket}/v1/job/{reading.job}/log?attempt={reading.attempt}&offset={reading.cursor}"
        headers = self._fleet.authorization("viewer")
        async with connect(
            url, additional_headers=headers, proxy=None, max_size=None, max_queue=1, close_timeout=1
        ) as socket:
            async with asyncio.timeout(self._luck.uniform(0.1, 6)):
                await self._receive(socket, reading)

    async def _receive(self, socket: ClientConnection, reading: Reading) -> None:
        async for message in socket:
            if isinstance(message, bytes):
                self._take(reading, message, [])
            else:
                self._heed(reading, to_word.validate_json(message))
            if self._stalls and self._luck.random() < 0.2:
                self._fleet.sometimes["viewer stalled"] += 1
                await asyncio.sleep(self._luck.uniform(0.5, 5))

    def _heed(self, reading: Reading, word: Word) -> None:
        match word:
            case {"type": "start", "attempt": reading.attempt, "offset": reading.cursor}:
                pass
            case {"type": "hole", "offset": reading.cursor, "length": int(length)}:
                reading.cursor += length
            case {"type": "end", "attempt": reading.attempt, "length": reading.cursor}:
                reading.is_over = True
            case _:
                self._fleet.broken.append(
                    f"a viewer at {reading.cursor} of {reading.attempt} was told {word}"
                )
                reading.is_over = True

    def _take(self, reading: Reading, data: bytes, gaps: list[tuple[int, int]]) -> None:
        wrong = first_mistake(reading.attempt, reading.cursor, data, gaps)
        if wrong is not None:
            self._fleet.broken.append(
                f"a viewer that had {reading.cursor} bytes of {reading.attempt} got wrong ones from {wrong} on"
            )
            reading.is_over = True
        reading.cursor += len(data)
        self.bytes += len(data)


@dataclass
class History:
    """What all viewers saw of the events. No id is given twice, however often an older database is put back."""

    seen: dict[int, str] = field(default_factory=dict)
    """What each event was."""
    last_seen: dict[int, int] = field(default_factory=dict)
    """In which generation it was told last: how often an older database had been put back by then."""
    leaps: set[tuple[int, int, int]] = field(default_factory=set)
    """Where somebody went on, and not with the next id: generation, the id before, the id after."""
    unknown: set[tuple[int, int]] = field(default_factory=set)
    """Cursors that were said not to be of the history: generation, cursor."""

    def note(self, generation: int, event: Word) -> str | None:
        """A complaint where another viewer saw something else under this id."""
        number, digest = event["event"], _digest(event)
        self.last_seen[number] = max(generation, self.last_seen.get(number, 0))
        return (
            None if self.seen.setdefault(number, digest) == digest else f"event {number} was told in two ways"
        )

    def complaints(self, generation: int, events: list[Word]) -> Iterator[str]:
        """Where viewers were told something else than the history of the last generation, which is given."""
        true = {event["event"]: _digest(event) for event in events}
        changed = [number for number in self.seen.keys() & true.keys() if self.seen[number] != true[number]]
        missing = [n for n, last in self.last_seen.items() if last == generation and n not in true]
        leaps = [(before, after) for when, before, after in self.leaps if when == generation]
        found = {
            "were told otherwise": changed,
            "were told and are none": missing,
            "were passed over": [n for n in true for before, after in leaps if before < n < after],
            "were gone on from and are none": [
                before for before, _ in leaps if before and before not in true
            ],
            "were called unknown": [n for when, n in self.unknown if when == generation and n in true],
        }
        yield from (f"events {what}: {sorted(numbers)[:20]}" for what, numbers in found.items() if numbers)


def _digest(event: Word) -> str:
    return hashlib.sha256(json.dumps(event, sort_keys=True).encode()).hexdigest()


class EventViewer:
    """Follows the history by cursor over many connections, as a dashboard does; each id has to come once, in order.

    Nobody tells it when an older database is put back: the coordinator has to.
    """

    def __init__(self, fleet: Fleet, luck: random.Random, history: History) -> None:
        self._fleet = fleet
        self._luck = luck
        self._history = history
        self._cursor: int | None = None
        self._gained = 0
        """The generation in which the cursor was told."""
        self._generation = 0
        """The one when the connection was opened: what it tells may be of a later one, never of an earlier."""
        self.rows: dict[str, Word] = {}
        """Each job as it was told last."""

    async def run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._luck.uniform(0.2, 8)):
                    await self._look()
            except AWAY:
                await asyncio.sleep(self._luck.uniform(0.05, 0.5))

    async def _look(self) -> None:
        if self._cursor is not None and self._luck.random() < 0.3:
            await self._poll()
            return
        async for _ in self._frames():
            pass

    async def catch_up(self) -> None:
        """To where the coordinator is now: it tells what is live once everything else is told."""
        async with aclosing(self._frames()) as frames:
            async for kind in frames:
                if kind == "live":
                    return

    def others(self, jobs: Mapping[str, Word]) -> list[str]:
        """Jobs that it sees otherwise than they are."""
        return sorted(job for job in jobs.keys() | self.rows.keys() if jobs.get(job) != self.rows.get(job))

    async def _frames(self) -> AsyncGenerator[str, None]:
        """The kind of each frame, taken."""
        self._generation = self._fleet.generation
        after = "" if self._cursor is None else f"?after={self._cursor}"
        url = self._fleet.url.replace("http", "ws", 1) + f"/v1/events{after}"
        headers = self._fleet.authorization("viewer")
        async with connect(
            url, additional_headers=headers, proxy=None, max_size=None, close_timeout=1
        ) as socket:
            async for message in socket:
                frame = to_word.validate_json(message)
                match kind := frame["type"]:
                    case "snapshot":
                        self._begin(frame)
                    case "events":
                        self._take(frame)
                yield kind

    async def _poll(self) -> None:
        self._generation = self._fleet.generation
        async with self._fleet.client("viewer") as http:
            answer = await http.get("/v1/events", params={"after": self._cursor or 0, "wait": 1})
            if answer.status_code == httpx.codes.GONE:
                self._forget()
            else:
                self._take(answer.raise_for_status().json())

    def _begin(self, snapshot: Word) -> None:
        if self._cursor is not None:
            self._forget()
        self._go_on(snapshot["cursor"])
        self.rows = {job["job_id"]: job for job in snapshot["jobs"]}

    def _forget(self) -> None:
        """Only where an older database was put back since the cursor was told may it be unknown."""
        assert self._cursor is not None
        if self._fleet.generation == self._gained:
            self._complain(f"was told that {self._cursor} is unknown")
        self._history.unknown.add((self._generation, self._cursor))
        self._fleet.sometimes["cursor of a lost history"] += 1
        self._cursor = None

    def _take(self, page: Word) -> None:
        for event in page["events"]:
            before, number = self._cursor or 0, event["event"]
            if number <= before:
                self._complain(f"at {before} was given event {number}")
            if number > before + 1:
                self._history.leaps.add((self._generation, before, number))
            self._go_on(number)
            if complaint := self._history.note(self._generation, event):
                self._complain(complaint)
            if event["job"]:
                self.rows[event["job"]["job_id"]] = event["job"]

    def _go_on(self, cursor: int) -> None:
        self._cursor, self._gained = cursor, self._generation

    def _complain(self, what: str) -> None:
        self._fleet.broken.append(f"a viewer of events {what}")
