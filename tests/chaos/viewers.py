"""Who watches the fleet: viewers of logs and events that come and go, and check every byte and every id."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx
from pydantic import TypeAdapter
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from tests.chaos.fleet import Fleet
from tests.chaos.trainer import mistake

Word = dict[str, object]
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
    """What viewers saw of the events, by how often an older database was put back, then by id."""

    seen: dict[int, dict[int, str]] = field(default_factory=dict)
    leaps: set[tuple[int, int, int]] = field(default_factory=set)
    """Where ids leapt, as they may when a coordinator starts: generation, the id before, the id after."""

    def note(self, generation: int, event: Mapping[str, object]) -> str | None:
        """A complaint where another viewer saw something else under this id."""
        number = int(str(event["event"]))
        digest = _digest(event)
        before = self.seen.setdefault(generation, {}).setdefault(number, digest)
        return None if before == digest else f"event {number} was told in two ways"

    def differing(self, generation: int, events: list[dict[str, object]]) -> list[int]:
        """Ids under which viewers saw something else than what stands in the history, or passed over."""
        true = {int(str(event["event"])): _digest(event) for event in events}
        seen = self.seen.get(generation, {})
        leaps = [(before, after) for when, before, after in self.leaps if when == generation]
        passed = [number for number in true for before, after in leaps if before < number < after]
        return passed + [number for number, digest in seen.items() if true.get(number) != digest]


def _digest(event: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(event, sort_keys=True).encode()).hexdigest()


class EventViewer:
    """Follows the history by cursor over many connections; each id has to come once, in order."""

    def __init__(self, fleet: Fleet, luck: random.Random, history: History) -> None:
        self._fleet = fleet
        self._luck = luck
        self._history = history
        self._cursor: int | None = None
        self._generation = 0
        self.kinds: Counter[str] = Counter()

    async def run(self) -> None:
        while True:
            if self._generation != self._fleet.generation:  # whoever restores tells people to look anew
                self._generation, self._cursor = self._fleet.generation, None
            try:
                async with asyncio.timeout(self._luck.uniform(0.2, 8)):
                    await self._follow()
            except AWAY:
                await asyncio.sleep(self._luck.uniform(0.05, 0.5))

    async def _follow(self) -> None:
        if self._cursor is not None and self._luck.random() < 0.3:
            await self._poll()
            return
        after = "" if self._cursor is None else f"?after={self._cursor}"
        url = self._fleet.url.replace("http", "ws", 1) + f"/v1/events{after}"
        headers = self._fleet.authorization("viewer")
        async with connect(
            url, additional_headers=headers, proxy=None, max_size=None, close_timeout=1
        ) as socket:
            async for message in socket:
                frame = to_word.validate_json(message)
                if frame["type"] == "snapshot":
                    if self._cursor is not None:
                        self._complain(f"with cursor {self._cursor} was given a snapshot")
                    self._cursor = int(str(frame["cursor"]))
                elif frame["type"] == "events":
                    self._take(frame)

    async def _poll(self) -> None:
        async with self._fleet.client("viewer") as http:
            query = {"after": self._cursor or 0, "wait": 1}
            self._take((await http.get("/v1/events", params=query)).raise_for_status().json())

    def _take(self, page: Word) -> None:
        events = page["events"]
        assert isinstance(events, list)
        for event in events:
            before = self._cursor or 0
            if event["event"] <= before:
                self._complain(f"at {before} was given event {event['event']}")
            if event["event"] > before + 1:
                self._history.leaps.add((self._generation, before, event["event"]))
            self._cursor = event["event"]
            self.kinds[event["kind"]] += 1
            if complaint := self._history.note(self._generation, event):
                self._complain(complaint)

    def _complain(self, what: str) -> None:
        if self._generation == self._fleet.generation:  # or it heard the first words after a restore
            self._fleet.broken.append(f"a viewer of events {what}")
