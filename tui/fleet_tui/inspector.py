"""Follows one selected job: its details, why it is where it is, and its log. No Textual here."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

from fleet_client.errors import FleetError, NotFound
from fleet_client.folding import missing
from fleet_protocol.jobs import AttemptView, Explanation, JobDetail
from fleet_protocol.logs import LogEnd, LogHole, LogStart, LogTime
from fleet_protocol.metrics import JobMetrics
from fleet_protocol.states import JobStatus
from fleet_tui.log import LogText
from fleet_tui.store import JobRow
from fleet_tui.transport import Coordinator, LogMessage, Waiting, follow_log

Need = Literal["detail", "log", "curves"]
Shown = Literal["log", "why", "curves"]


DRAWN_POINTS = 1000


class Inspector:
    """What is known of the selected job beyond its row. `changed` and `grown` say when to draw again."""

    def __init__(
        self,
        changed: Callable[[], None],
        grown: Callable[[int], None],
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._changed, self._grown, self._seconds = changed, grown, seconds
        self.round_trip = 0.0
        """Seconds that the coordinator took for its last answer about a job."""
        self.job_id: str | None = None
        self.forget()

    def forget(self) -> None:
        """Nothing is known of the job that is looked at from now on."""
        self.detail: JobDetail | None = None
        self.why: Explanation | None = None
        self.trouble: list[str] = []
        """Why there is no explanation."""
        self.curves: JobMetrics | None = None
        self.log = LogText()
        self.log_state = ""
        """In a word or a sentence: `live`, `complete`, why there is none, or when it goes on."""
        self.choice: Shown | None = None
        """What the operator asked to see; None leaves it to the job's status."""
        self._seen: tuple[object, ...] = ()
        self.chosen: AttemptView | None = None
        """The earlier attempt whose log is read; None is the current one, else the last."""
        self._current: str | None = None
        """The job's attempt by its row."""
        self._attempt: str | None = None
        """The attempt whose log is read: the coordinator may know of a newer one than the row."""
        self._drawn: tuple[object, ...] | None = None
        self.awaited = False
        """Another job was turned to, and nothing but its row is known yet."""

    def look_at(self, row: JobRow | None) -> set[Need]:
        """Turn to this row, or to its new state; returns what has to be asked for."""
        needs: set[Need] = set()
        job_id = row.job.job_id if row else None
        if job_id != self.job_id:
            self.job_id = job_id
            self.forget()
            self.awaited = job_id is not None
            needs = {"log"} if job_id else set()
        if row is None:
            return needs
        seen = (row.job.version, row.job.status, row.waiting)
        if seen != self._seen:
            self._seen = seen
            needs.add("detail")
        if row.job.attempt is not None and row.job.attempt != self._current:
            self._current = self._attempt = row.job.attempt
            self.log, self.log_state, self.chosen = LogText(), "", None
            needs.add("log")
        if self.shows(row) == "curves" and self._drawn != (told := (row.job.version, row.points)):
            self._drawn = told
            needs.add("curves")
        return needs

    def turn_to_attempt(self, step: int) -> str:
        """The log of the attempt before (-1) or after (1) the one that is read; empty, or why there is none.

        The log has to be asked for then.
        """
        history = self.detail.history if self.detail else ()
        reads = self.chosen.attempt if self.chosen else self._attempt
        at = next((nth for nth, one in enumerate(history) if one.attempt == reads), len(history))
        if not 0 <= at + step < len(history):
            return f"there is no {'earlier' if step < 0 else 'later'} attempt"
        self.chosen = history[at + step]
        self.log, self.log_state, self.choice = LogText(), "", "log"
        return ""

    def shows(self, row: JobRow) -> Shown:
        return self.choice or ("why" if row.job.status is JobStatus.PENDING else "log")

    def make_do(self) -> None:
        """No longer wait for what has not come."""
        if self.awaited:
            self.awaited = False
            self._changed()

    def _told(self) -> None:
        is_known = self.detail is not None and (
            len(self.log) or self.why or self.log_state not in ("", "live")
        )
        self.awaited = self.awaited and not is_known and not self.trouble
        self._changed()

    async def load(self, coordinator: Coordinator) -> None:
        """The job's details and the explanation; without an answer the row alone is shown.

        What arrives after another job was turned to belongs to nobody and is dropped, here and in `follow`.
        """
        job_id = self.job_id
        if job_id is None:
            return
        asked = self._seconds()
        try:
            detail = await coordinator.job(job_id)
            self.round_trip = self._seconds() - asked
            if self.job_id != job_id:
                return
            self.detail = detail
            self._told()
            why = await coordinator.explain(job_id)
        except FleetError as error:
            if self.job_id == job_id:
                self.trouble = [str(error), *([error.next] if error.next else [])]
                self._told()
            return
        if self.job_id == job_id:
            self.why = why
            self._told()

    async def draw(self, coordinator: Coordinator) -> None:
        """The curves of the current attempt, else of the last one; none where it was never tried."""
        job_id = self.job_id
        if job_id is None:
            return
        try:
            curves = await coordinator.metrics(job_id, points=DRAWN_POINTS)
        except FleetError as error:
            if self.job_id == job_id:
                self.trouble = [str(error)]
                self._changed()
            return
        if self.job_id == job_id:
            self.curves = curves
            self._changed()

    async def follow(self, coordinator: Coordinator) -> None:
        """The log of the current attempt, else of the last one, until it is complete or not looked at."""
        if self.job_id is None:
            return
        log, attempt = self.log, self.chosen.attempt if self.chosen else None
        try:
            async for item in follow_log(coordinator, self.job_id, attempt):
                if self.log is not log:
                    return
                self._take(item, log)
        except FleetError as error:
            if self.log is log:
                self.log_state = "no log yet" if isinstance(error, NotFound) else str(error)
                self._told()

    def _take(self, item: LogMessage | Waiting, log: LogText) -> None:
        match item:
            case LogTime():
                log.now = item.at.timestamp()
                return
            case bytes() | LogHole():
                self.log_state = "live"
                self._grown(log.feed(item) if isinstance(item, bytes) else log.note(missing(item)))
                if self.awaited:
                    self._told()
                return
            case LogStart():
                self.log_state = "live"
                if self.chosen is None:
                    self._attempt = item.attempt
            case LogEnd():
                self.log_state = "complete"
            case Waiting():
                self.log_state = f"interrupted, again in {item.seconds:.0f}s"
        self._told()
