"""What a coordinator said, written to a file as it came, and played again without one.

A line is one JSON object: `at`, the time of arrival, and one of `frame` (of the events), `job`, `why`, `curves`
(an answer), `log` (a message of the log named by `of`) or `text` (a log's bytes, ASCII or escaped).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeVar, cast

from pydantic import BaseModel, ValidationError

from fleet_client.errors import NotFound
from fleet_protocol.errors import Code, Problem
from fleet_protocol.events import EventPage, events_frame
from fleet_protocol.jobs import Explanation, JobDetail
from fleet_protocol.logs import LogStart, to_viewer
from fleet_protocol.metrics import JobMetrics
from fleet_tui.store import Frame
from fleet_tui.transport import Access, Coordinator, LogMessage

if TYPE_CHECKING:
    from fleet_client.client import LogChunk

Answer = TypeVar("Answer", JobDetail, Explanation, JobMetrics)
ANSWERS: dict[str, type[JobDetail | Explanation | JobMetrics]] = {
    "job": JobDetail,
    "why": Explanation,
    "curves": JobMetrics,
}


class BrokenRecording(ValueError):
    """The file is no recording; the message names the line."""


class Recorder:
    """A coordinator whose words are written down; it is asked and ordered as ever."""

    def __init__(self, coordinator: Coordinator, file: TextIO) -> None:
        self._coordinator, self._file = coordinator, file
        self._begun: dict[str, str] = {}
        """By attempt, what its log was asked for as: a reconnect asks for the attempt."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._coordinator, name)

    async def events(self, after: int | None = None) -> AsyncIterator[Frame]:
        async for frame in self._coordinator.events(after):
            self._note(frame=frame.model_dump(mode="json"))
            yield frame

    async def job(self, ref: str) -> JobDetail:
        return self._answered("job", await self._coordinator.job(ref))

    async def explain(self, ref: str) -> Explanation:
        return self._answered("why", await self._coordinator.explain(ref))

    async def metrics(self, ref: str, **asked: Any) -> JobMetrics:
        return self._answered("curves", await self._coordinator.metrics(ref, **asked))

    async def follow_log(self, ref: str, **asked: Any) -> AsyncIterator[LogMessage]:
        goes_on, of = asked.get("offset") is not None, asked.get("attempt") or ref
        of = self._begun.get(of, of) if goes_on else of
        async for message in self._coordinator.follow_log(ref, **asked):
            if isinstance(message, LogStart):
                self._begun[message.attempt] = of
            if isinstance(message, bytes):
                self._note(text=message.decode("utf-8", "surrogateescape"), of=of)
            elif not (goes_on and isinstance(message, LogStart)):
                self._note(log=message.model_dump(mode="json"), of=of)
            yield message

    def _answered(self, kind: str, answer: Answer) -> Answer:
        self._note(**{kind: answer.model_dump(mode="json")})
        return answer

    def _note(self, **what: object) -> None:
        self._file.write(json.dumps({"at": datetime.now(UTC).isoformat(), **what}) + "\n")
        self._file.flush()


class Recording:
    """Access to the same coordinator, written down in `file`."""

    def __init__(self, access: Access, file: TextIO) -> None:
        self._access, self._file = access, file
        self.url = access.url

    @property
    def read_only(self) -> bool:
        return self._access.read_only

    def renew(self) -> bool:
        return self._access.renew()

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Coordinator]:
        async with self._access.connect() as coordinator:
            yield cast(Coordinator, Recorder(coordinator, self._file))


class Replay:
    """A recording as the way to a coordinator, and as that coordinator. BrokenRecording where it is none.

    Frames come as far apart as they came; answers are the last that were recorded.
    """

    read_only = True

    def __init__(self, path: Path) -> None:
        self.url = str(path)
        self._frames: list[tuple[datetime, Frame]] = []
        self._answers: dict[tuple[str, str], BaseModel] = {}
        self._logs: dict[str, list[LogMessage]] = {}
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            raise BrokenRecording(f"{path} cannot be read: {error}") from error
        for number, line in enumerate(lines, 1):
            try:
                self._learn(json.loads(line))
            except (ValidationError, KeyError, TypeError, AttributeError, ValueError) as error:
                what = str(error).splitlines()[0]
                raise BrokenRecording(f"{path}, line {number}, is no line of a recording: {what}") from error
        if not self._frames:
            raise BrokenRecording(f"{path} holds no frame of events.")

    def _learn(self, line: dict[str, Any]) -> None:
        at = datetime.fromisoformat(line["at"])
        if "frame" in line:
            self._frames.append((at, events_frame.validate_python(line["frame"])))
        elif "text" in line:
            self._logs[line["of"]].append(line["text"].encode("utf-8", "surrogateescape"))
        elif "log" in line:
            message = to_viewer.validate_python(line["log"])
            if message.type == "start":
                self._logs[line["of"]] = []
            self._logs[line["of"]].append(message)
        else:
            kind = next((kind for kind in ANSWERS if kind in line), "")
            if not kind:
                raise ValueError("it has no frame, answer or log")
            answer = ANSWERS[kind].model_validate(line[kind])
            self._answers[kind, answer.job_id] = answer

    def renew(self) -> bool:
        return False

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Coordinator]:
        yield cast(Coordinator, self)

    async def events(self, after: int | None = None) -> AsyncIterator[Frame]:
        before = self._frames[0][0]
        for at, frame in self._frames:
            await asyncio.sleep(max(0.0, (at - before).total_seconds()))
            before = at
            yield frame
        await asyncio.Event().wait()

    async def history(self, before: int, **_: object) -> EventPage:
        return EventPage(events=(), next=0)

    async def follow_log(
        self, ref: str, *, attempt: str | None = None, **_: object
    ) -> AsyncIterator[LogMessage]:
        for message in self._log(attempt or ref):
            yield message
        await asyncio.Event().wait()

    async def read_log(self, ref: str, *, attempt: str | None = None, **_: object) -> LogChunk:
        from fleet_client.client import LogChunk  # it brings the network's libraries

        whole = b"".join(piece for piece in self._log(attempt or ref) if isinstance(piece, bytes))
        return LogChunk(attempt or "", 0, whole, len(whole), open=False)

    def _log(self, of: str) -> list[LogMessage]:
        if of not in self._logs:
            raise not_recorded()
        return self._logs[of]

    async def job(self, ref: str) -> JobDetail:
        return cast(JobDetail, self._answer("job", ref))

    async def explain(self, ref: str) -> Explanation:
        return cast(Explanation, self._answer("why", ref))

    async def metrics(self, ref: str, **_: object) -> JobMetrics:
        return cast(JobMetrics, self._answer("curves", ref))

    def _answer(self, kind: str, ref: str) -> BaseModel:
        if (kind, ref) not in self._answers:
            raise not_recorded()
        return self._answers[kind, ref]

    def __getattr__(self, name: str) -> Any:
        async def refuse(*_: object, **__: object) -> None:
            raise not_recorded()

        if name.startswith("_"):
            raise AttributeError(name)
        return refuse


def not_recorded() -> NotFound:
    detail = "This was not asked while it was recorded."
    return NotFound(Problem(title="Not recorded", status=404, detail=detail, code=Code.NOT_FOUND))
