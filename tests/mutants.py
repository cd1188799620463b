"""`python3 run.py mutants [NAME…]`: take one guard away at a time; some test has to notice.

Each mutant is a piece of the coordinator's text and what takes its place, in a copy of the tree. One that no test
kills is a promise that nothing keeps.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("protocol", "server", "agent", "client", "tui", "trainer", "alembic")
HISTORIES = "tests/properties/test_histories.py::test_the_promises_hold_in_seeded_histories[sqlite]"


@dataclass(frozen=True, slots=True)
class Mutant:
    name: str
    file: str
    guard: str
    instead: str
    tests: str = HISTORIES
    """Tests that are there to notice; the first failure ends them."""

    def put_into(self, tree: Path) -> None:
        path = tree / "server" / "fleet_server" / self.file
        text = path.read_text("utf-8")
        anyhow = re.compile(
            r"\s+".join(map(re.escape, self.guard.split()))
        )  # however it is indented and broken
        found = anyhow.findall(text)
        if len(found) != 1:
            raise SystemExit(f"{self.name}: its guard stands {len(found)} times in {self.file}")
        path.write_text(text.replace(found[0], self.instead.strip()), "utf-8")


TRANSITIONS, RECORD, QUEUE = "jobs/transitions.py", "jobs/record.py", "matching/queries.py"
CURRENT = "    _require_current(job, attempt)\n"
STARTED = '    return Change(\n        "started",'
ENDED = "    ended = _ended(attempt, AttemptStatus.COMPLETED"
LOST_KIND = "    lost = failure.kind is FailureKind.INFRASTRUCTURE\n"
WORDS = '    words = detail or reason.replace("_", " ")\n'
FAILED_CANCEL = "    if job.cancel_requested:\n        return _cancelled(job, ended, now)\n    if lost:"
SWEPT_CANCEL = "    if job.cancel_requested:\n        return _cancelled(job, ended, now)\n    return _lost("
RELEASED_CANCEL = "    if job.cancel_requested:\n        return _cancelled(job, _ended("
VERDICT = "job.attempt != attempt.attempt or not attempt.status.is_open or attempt.worker_id != worker"
NOT_BEFORE = "or_(jobs.c.not_before.is_(None), jobs.c.not_before <= now)"
STATUS_SAME = '        jobs.c.status == bindparam("_status"),\n'
VERSION_SAME = '        jobs.c.version == bindparam("_version"),\n'
RECOVERY, CLOSING = "tests/server/test_log_recovery.py", "tests/server/test_log_closing.py"
VIEWERS = "tests/server/test_log_viewers.py"

MUTANTS = [
    Mutant("start: current token", TRANSITIONS, CURRENT + STARTED, STARTED),
    Mutant("complete: current token", TRANSITIONS, CURRENT + ENDED, ENDED),
    Mutant("fail: current token", TRANSITIONS, CURRENT + LOST_KIND, LOST_KIND),
    Mutant(
        "release: current token",
        TRANSITIONS,
        "        return None\n" + CURRENT + WORDS,
        "        return None\n" + WORDS,
    ),
    Mutant("heartbeat: current token", TRANSITIONS, f"if {VERDICT}:", "if False:"),
    Mutant(
        "heartbeat: from memory only what goes on", "workers/leases.py", "and not job.cancel_requested:", ":"
    ),
    Mutant(
        "heartbeat: from memory only to its worker",
        "workers/leases.py",
        "if lease and lease.worker_id == worker else None",
        "if lease else None",
    ),
    Mutant("every call: its own worker", "workers/service.py", "if found.worker_id != worker:", "if False:"),
    Mutant(
        "every call: an attempt of this job",
        "jobs/queries.py",
        "row is None or row[0] != job_id",
        "row is None",
    ),
    Mutant(
        "update: the row as it was decided on",
        RECORD,
        STATUS_SAME + VERSION_SAME,
        "",
        "tests/properties/test_guards.py",
    ),
    Mutant("update: the version too", RECORD, VERSION_SAME, "", "tests/properties/test_guards.py"),
    Mutant(
        "transitions: only along the table",
        TRANSITIONS,
        "if moved and self.job.status not in TRANSITIONS[self.before.status]:",
        "if False:",
        "tests/properties/test_guards.py tests/server/test_transitions.py",
    ),
    Mutant(
        "lease: counted from listening", TRANSITIONS, "max(last, listening_since) + lease", "last + lease"
    ),
    Mutant(
        "lease: the coordinator's own pause",
        "jobs/sweep.py",
        "if now - self._looked > timedelta(seconds=self.settings.heartbeat + self.settings.sweep):",
        "if False:",
    ),
    Mutant("errors: at most max_attempts", TRANSITIONS, "or errors >= limit", "or errors > limit"),
    Mutant(
        "losses: at most max_lost", TRANSITIONS, "if lost >= policy.max_lost:", "if lost > policy.max_lost:"
    ),
    Mutant("errors and losses: counted apart", TRANSITIONS, LOST_KIND, "    lost = False\n"),
    Mutant(
        "upload: its bytes are verified",
        "content.py",
        "if found != sha256:",
        "if False:",
        "tests/server/test_artifacts.py tests/server/test_blobs.py",
    ),
    Mutant(
        "upload: it goes on where it ended",
        "content.py",
        "if part.offset not in (0, have):",
        "if False:",
        "tests/server/test_artifacts.py",
    ),
    Mutant(
        "complete: the artifact is there",
        "workers/service.py",
        "if not artifact_queries.uploaded(tx.connection, request.attempt, request.artifact):",
        "if False:",
    ),
    Mutant(
        "checkpoint: current token",
        TRANSITIONS,
        CURRENT + "    if (job.checkpoint, attempt.checkpoint)",
        "    if (job.checkpoint, attempt.checkpoint)",
    ),
    Mutant(
        "checkpoint: its bytes are there",
        "workers/service.py",
        "if not blob_queries.known(tx.connection, [request.sha256]):",
        "if False:",
    ),
    Mutant(
        "complete: nothing to go on from",
        TRANSITIONS,
        "        checkpoint=None,\n        metrics",
        "        metrics",
    ),
    Mutant(
        "requeue: anew only on purpose",
        TRANSITIONS,
        "checkpoint=None if again else job.checkpoint,",
        "checkpoint=None,",
        "tests/server/test_transitions.py",
    ),
    Mutant(
        "prune: not what a job needs",
        "blobs/queries.py",
        "if sha256 in needed(tx.connection):",
        "if False:",
        "tests/server/test_blobs.py",
    ),
    Mutant(
        "reload: not without its data",
        "manifest/service.py",
        "        if missing:\n            await self._take_in(source, missing)\n",
        "",
        "tests/server/test_blobs.py",
    ),
    Mutant(
        "claim: only a pending job",
        QUEUE,
        "            PENDING, jobs.c.needs_digest == digest,",
        "            jobs.c.needs_digest == digest,",
    ),
    Mutant("claim: not before its time", QUEUE, NOT_BEFORE, "or_(True, jobs.c.not_before <= now)"),
    Mutant(
        "claim: the same question, the same answer",
        "matching/loop.py",
        "before = queries.attempts_by_claim(tx.connection, [request.claim_id for request in batch])",
        "before: dict[str, Attempt] = {}",
    ),
    Mutant(
        "claim: an answer for who asked first",
        "matching/loop.py",
        "if holds and theirs else None",
        "if holds else None",
    ),
    Mutant(
        "claim: no answer once it is over",
        "matching/loop.py",
        "holds = attempt.status.is_open and job.attempt == attempt.attempt",
        "holds = True",
    ),
    Mutant("cancel: before trying again after an error", TRANSITIONS, FAILED_CANCEL, "    if lost:"),
    Mutant("cancel: before trying again after a loss", TRANSITIONS, SWEPT_CANCEL, "    return _lost("),
    Mutant(
        "cancel: before giving back",
        TRANSITIONS,
        RELEASED_CANCEL,
        "    if False:\n        return _cancelled(job, _ended(",
    ),
    Mutant(
        "cancel: not what is over",
        TRANSITIONS,
        "    if job.status is not JobStatus.PENDING:\n",
        "    if False:\n",
    ),
    Mutant(
        "requeue: not what is alive",
        TRANSITIONS,
        "if job.status not in (JobStatus.FAILED, JobStatus.CANCELLED) and not (again and is_done):",
        "if False:",
    ),
    Mutant(
        "accept: completed is final",
        TRANSITIONS,
        "if job.status is JobStatus.COMPLETED or job.status.is_active:",
        "if job.status.is_active:",
        "tests/properties/test_guards.py",
    ),
    Mutant("log: no gap", "logs/store.py", "if offset > found.length:", "if False:"),
    Mutant(
        "log: an overlap agrees",
        "logs/store.py",
        "if not data.startswith(stored, agreed):",
        "if False:",
        f"{HISTORIES} tests/server/test_log_store.py",
    ),
    Mutant(
        "log: a torn tail is cut",
        "logs/plain.py",
        "os.ftruncate(file, end) os.ftruncate(sidecar",
        "os.ftruncate(sidecar",
        RECOVERY,
    ),
    Mutant("log: a torn batch never was", "logs/plain.py", "not self._is_whole(rows)", "False", RECOVERY),
    Mutant(
        "log: a torn row is none", "logs/sidecar.py", "!= crc32(body):", "!= crc32(body) and False:", RECOVERY
    ),
    Mutant(
        "log: no bytes below the reserve",
        "logs/store.py",
        "if is_full:\n            raise",
        "if False:\n            raise",
        RECOVERY,
    ),
    Mutant(
        "log: a row or nothing",
        "logs/store.py",
        'partial(found.write_row, found.rows, row, data or b""),',
        "partial(bool),",
        RECOVERY,
    ),
    Mutant(
        "log: a write under way is waited for",
        "logs/store.py",
        "while not work.done():",
        "while False:",
        RECOVERY,
    ),
    Mutant(
        "log: a closed one takes no more",
        "logs/store.py",
        "if offset + size > found.length:\n                    raise",
        "if False:\n                    raise",
        CLOSING,
    ),
    Mutant(
        "log: compressed bytes are read back",
        "logs/closed.py",
        "if not (part := read(start, end - start)):",
        "if not (part := read(start, end - start) or bytes(end - start)):",
        CLOSING,
    ),
    Mutant(
        "log: a closed one counts", "logs/store.py", "with suppress(FileNotFoundError):", "if False:", CLOSING
    ),
    Mutant("log: what is under way stays", "logs/closing.py", "length >= ended.log_bytes", "True", CLOSING),
    Mutant(
        "log: zeros of a hole are no bytes",
        "logs/service.py",
        "if hole and hole.start <= offset:",
        "if False:",
        VIEWERS,
    ),
    Mutant(
        "log: only durable bytes", "logs/store.py", "min(limit, found.length - offset)", "limit", RECOVERY
    ),
    Mutant(
        "access: the role may",
        "access/guard.py",
        "if role not in allowed:",
        "if False:",
        "tests/server/test_access.py",
    ),
    Mutant(
        "access: the token is known",
        "access/guard.py",
        "    if role is None:\n        raise NotAuthenticated\n",
        '    if role is None:\n        return "operator"\n',
        "tests/server/test_access.py",
    ),
    Mutant(
        "hello: a copied state folder",
        "workers/service.py",
        "if known and elsewhere and self.roster.last_heard(known) > fresh:",
        "if False:",
        "tests/server/test_sweep.py",
    ),
    Mutant("reload: an equal row is left alone", "manifest/plan.py", "job.spec == wanted.stored:", "False:"),
]


def copy(tree: Path) -> None:
    """What git knows of and what is not committed yet, without what is ignored."""
    listed = subprocess.check_output(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT
    )
    for name in filter(None, listed.decode().split("\0")):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)


def killer(mutant: Mutant | None, tree: Path, tests: str) -> str | None:
    """The test that fails, if any does."""
    if mutant is not None:
        mutant.put_into(tree)
    paths = os.pathsep.join(str(tree / part) for part in PARTS)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--tb=no", *tests.split()],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    if done.returncode == 0:
        return None
    found = re.search(r"^(?:FAILED|ERROR) (\S+)(?: - (.*))?$", done.stdout, re.MULTILINE)
    if found is None:
        raise SystemExit(f"{mutant and mutant.name}: the tests did not run\n{done.stdout}{done.stderr}")
    return " - ".join(filter(None, (found[1].rpartition("::")[2], (found[2] or "")[:60])))


def main(names: list[str]) -> int:
    chosen = [mutant for mutant in MUTANTS if not names or any(name in mutant.name for name in names)]
    survivors = []
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole"
        copy(whole)
        if failed := killer(None, whole, " ".join(sorted({mutant.tests for mutant in chosen}))):
            print(f"Without any mutant this fails already: {failed}", file=sys.stderr)
            return 2
        for mutant in chosen:
            began = time.monotonic()
            tree = Path(folder) / "mutant"
            shutil.copytree(whole, tree)
            killed = killer(mutant, tree, mutant.tests)
            shutil.rmtree(tree)
            if killed is None:
                survivors.append(mutant.name)
            fate = f"killed by {killed}" if killed else "SURVIVED"
            print(f"{time.monotonic() - began:5.1f} s  {mutant.name}: {fate}", flush=True)
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} mutants killed")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
