"""What a run lived through, counted from the programs' own journals and the history."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

JOURNAL: dict[str, list[tuple[str, dict[str, str]]]] = {
    # what: the action of a line, and fields that it has
    "stale heartbeat": [("heartbeat_refused", {"verdict": "stop"})],
    "unknown heartbeat": [("heartbeat_refused", {"verdict": "unknown"})],
    "stale start, completion or release": [("refused", {"code": "stale_attempt"})],
    "replayed complete": [("replayed", {"status": "completed"})],
    "replayed failure": [("replayed", {"status": status}) for status in ("failed", "lost", "cancelled")],
    "replayed release": [("replayed", {"status": "released"})],
    "replayed start": [("replayed", {"status": "running"})],
    "replayed claim": [("claim_replayed", {})],
    "refused offset": [("refused", {"code": "log_gap"}), ("log_gap", {})],
    "overlap": [("log_overlap", {})],
    "torn tail": [("log_torn", {})],
    "hole": [("log_hole", {})],
    "adoption": [("attempt_adopted", {})],
    "transport switch": [("logs_over_http", {})],
    "unknown verdict": [("attempt_unknown", {})],
    "second SIGTERM": [("ending_now", {})],
    "drain": [("draining", {})],
    "renewal in place": [("starting_anew", {})],
    "pause noticed by the coordinator": [("coordinator_was_paused", {})],
    "lease lost": [("lease_lost", {})],
    "damaged upload refused": [("refused", {"code": "digest_mismatch"})],
    "upload went on elsewhere": [("refused", {"code": "upload_offset"})],
    "disk full at the coordinator": [("refused", {"code": "storage_full"}), ("log_disk_full", {})],
    "disk full at an agent": [("claims_paused", {}), ("state_failed", {}), ("disk_full", {})],
    "late result": [("result_superseded", {})],
    "result kept": [("result_kept", {})],
    "checkpoint stored": [("checkpointed", {})],
}
HISTORY = (
    "cancel won against complete",
    "complete won against cancel",
    "reboot",
    "checkpoint taken up",
    "supervisor lost",
    "accepted late",
    "restored database",
    "cursor of a lost history",
    "viewer stalled",
    "viewer resumed by cursor",
)
COMMON = (
    "stale heartbeat",
    "stale start, completion or release",
    "replayed complete",
    "refused offset",
    "adoption",
    "drain",
    "lease lost",
    "damaged upload refused",
    "cancel won against complete",
    "viewer resumed by cursor",
)
"""What three minutes have to reach."""
BY_ROOT = ("disk full at the coordinator", "disk full at an agent")
BY_SQLITE = ("restored database", "cursor of a lost history", "unknown heartbeat", "unknown verdict")


def everything(*, root: bool, sqlite: bool) -> list[str]:
    """What an hour has to reach."""
    never = {*(() if root else BY_ROOT), *(() if sqlite else BY_SQLITE)}
    return [what for what in (*JOURNAL, *HISTORY) if what not in never]


def from_journals(folder: Path) -> Counter[str]:
    """Every program's output, read once."""
    counts: Counter[str] = Counter()
    for file in folder.glob("*.out"):
        with file.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.startswith("{"):
                    counts.update(_meanings(line))
    return counts


def _meanings(line: str) -> Iterable[str]:
    try:
        entry = json.loads(line)
    except ValueError:  # killed in the middle of it
        return []
    return [
        what
        for what, signs in JOURNAL.items()
        for action, fields in signs
        if entry.get("action") == action and fields.items() <= entry.items()
    ]


def from_history(events: Iterable[Mapping[str, object]]) -> Counter[str]:
    """Which way a job's events went; all of one job, in order."""
    counts: Counter[str] = Counter()
    asked = False
    for event in events:
        kind, detail = event["kind"], str(event["detail"] or "")
        if asked and kind in ("cancelled", "completed"):
            won = "cancel won against complete" if kind == "cancelled" else "complete won against cancel"
            counts[won] += 1
        asked = kind == "cancel_requested" or (asked and kind == "started")
        counts["accepted late"] += kind == "accepted"
        counts["reboot"] += "the machine restarted" in detail
        counts["supervisor lost"] += "supervisor was killed" in detail
    return counts
