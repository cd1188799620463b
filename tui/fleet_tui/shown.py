"""What the lower half says of the row under the cursor. Pure: rows and what was asked of them in, text out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from fleet_protocol.workers import WorkerView
from fleet_tui import facts
from fleet_tui.inspector import Inspector
from fleet_tui.listings import Text
from fleet_tui.store import JobRow, Store
from fleet_tui.text import Line, plain

TAIL_LINES = 20


@dataclass(frozen=True, slots=True)
class Shown:
    """A title with the job's id, labelled facts, and a text with its label and state."""

    title: Line
    name: str
    facts: list[Line]
    text: Text = ()
    label: str = ""
    state: str = ""
    at_end: bool = False
    """What matters is at the text's end."""


NOTHING = Shown([], "", [])


def of_job(row: JobRow, inspector: Inspector, now: datetime, width: int) -> Shown:
    known = inspector.detail
    told = facts.job_facts(row, known, width)
    text, label, state = _text(row, inspector, width)
    title = facts.job_title(row, known, now)
    return Shown(title, row.job.job_id, told, text, label, state, at_end=inspector.shows(row) == "log")


def _text(row: JobRow, inspector: Inspector, width: int) -> tuple[Text, str, str]:
    match inspector.shows(row):
        case "why":
            why = inspector.why
            label = "why it waits" if row.job.status == "pending" else "why it is there"
            return facts.why_text(why, width) if why else inspector.trouble, label, ""
        case "curves":
            curves = inspector.curves
            return facts.curves_text(curves, width) if curves else inspector.trouble, "curves", ""
        case _ if not len(inspector.log) and (tail := _tail(inspector)):
            return tail, "its last lines, as the worker told them", inspector.log_state
        case _:
            return inspector.log, facts.log_label(inspector.chosen), inspector.log_state


def _tail(inspector: Inspector) -> list[str]:
    """What the failed attempt said at its end, where its log is not at hand."""
    history = inspector.detail.history if inspector.detail else ()
    attempt = inspector.chosen or (history[-1] if history else None)
    if attempt is None or not attempt.tail or inspector.log_state in ("", "live"):
        return []
    return [plain(line) for line in attempt.tail.splitlines()[-TAIL_LINES:]]


def of_worker(worker: WorkerView, store: Store, now: datetime) -> Shown:
    told = facts.worker_facts(worker, store, now)
    return Shown(facts.worker_title(worker, store, now), "", told)
