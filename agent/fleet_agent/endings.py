"""Why a trainer ended, decided from its exit status, what it was told, and the last lines it printed."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
from pathlib import Path

from fleet_agent.state import StopOrder
from fleet_protocol.states import FailureKind, ReleaseReason

TAIL_BYTES = 16_384
REASON_CHARS = 400
CONTINUATION_LINES = 2

DONE, SPEC_REFUSED, DATA_WRONG, CHECKPOINTED = 0, 2, 3, 75
SIGNAL_BASE = 128  # a shell reports the death by signal N as 128 + N

_TERMINAL_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-_])")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_TRACEBACK = "Traceback (most recent call last):"
_NO_ROOM = (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT))
_HINTS = {signal.SIGKILL: ", often the sign of too little memory"} if os.name != "nt" else {}


def read_tail(log: Path) -> str:
    """The log's last 16 KiB as text; empty when there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL_BYTES))
            return file.read(TAIL_BYTES).decode(errors="replace")
    except OSError:
        return ""


def last_words(tail: str) -> str | None:
    """The error that a log ends with: the last traceback's exception, else the last line with any text."""
    lines = [_plain(line) for line in tail.replace("\r\n", "\n").split("\n")]
    starts = [number for number, line in enumerate(lines) if _TRACEBACK in line]
    if starts:
        after = lines[starts[-1] + 1 :]
        raised = next(
            (n for n, line in enumerate(after) if line and not line[0].isspace() and line[0] not in "|+"),
            None,
        )
        if raised is not None:
            message = [after[raised]]
            for line in after[raised + 1 : raised + 1 + CONTINUATION_LINES]:
                if not line.strip():
                    break
                message.append(line.strip())
            return " ".join(message)[:REASON_CHARS]
    return next((line.strip()[:REASON_CHARS] for line in reversed(lines) if line.strip()), None)


def _plain(line: str) -> str:
    """A line as a terminal would end up showing it: the last redraw, without colours or control characters."""
    shown = [part for part in line.split("\r") if part.strip()]
    return _CONTROL.sub("", _TERMINAL_SEQUENCE.sub("", shown[-1] if shown else "")).rstrip()


def failure(
    status: int | None, tail: str, *, rebooted: bool = False, disk_full: bool = False
) -> tuple[FailureKind, str]:
    """How an ending that nobody asked for is reported. `status` None: it was never recorded; DONE: nor was a result."""
    words = last_words(tail)
    if status is None:
        full = "the disk is full" if disk_full else "its supervisor was killed"
        cause = "the machine restarted" if rebooted else full
        return FailureKind.INFRASTRUCTURE, f"the trainer is gone without an exit status: {cause}"
    if status == DONE:
        why = "the machine restarted before the finished result was safe on its disk"
        return FailureKind.INFRASTRUCTURE, why
    if status == SPEC_REFUSED:
        return FailureKind.REFUSED, words or "the trainer refuses the job's settings (exit code 2)"
    if status == DATA_WRONG:
        return FailureKind.DATA, words or "the trainer finds its data missing or wrong here (exit code 3)"
    if status == CHECKPOINTED:
        return FailureKind.ERROR, "the trainer stopped with exit code 75 though nobody had asked it to"
    if disk_full or any(words and sign in words for sign in _NO_ROOM):
        said = f"; it last printed: {words}" if words else ""
        return FailureKind.INFRASTRUCTURE, f"the disk of this machine is full, and the trainer ended{said}"
    if name := _signal_name(status):
        return FailureKind.ERROR, f"killed by {name}" + (f"; it last printed: {words}" if words else "")
    return FailureKind.ERROR, words or f"the trainer ended with exit code {status} and printed nothing"


def _signal_name(status: int) -> str | None:
    if status > SIGNAL_BASE:
        with contextlib.suppress(ValueError):
            number = signal.Signals(status - SIGNAL_BASE)
            return number.name + _HINTS.get(number, "")
    return None


def is_release(status: int | None, order: StopOrder | None) -> bool:
    """True when the attempt is given back instead of being judged: it was told to stop, and did."""
    if order is None or order.is_timeout:
        return False
    if (
        order.reason is ReleaseReason.DRAINED
    ):  # a result, or a refusal that would only be repeated, still counts
        return status not in (DONE, SPEC_REFUSED, DATA_WRONG)
    return True
