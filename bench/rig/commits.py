"""The limit that a durable claim is held against: what this disk and plain sqlite3 do when nothing else is done."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path
from uuid import uuid4

TABLES = """
CREATE TABLE jobs (job_id TEXT PRIMARY KEY, status TEXT, attempt TEXT, attempts INT, updated_at TEXT, spec TEXT);
CREATE TABLE attempts (attempt TEXT PRIMARY KEY, job_id TEXT, worker TEXT, claim_id TEXT UNIQUE, status TEXT);
CREATE TABLE events (event INTEGER PRIMARY KEY, at TEXT, kind TEXT, job_id TEXT, row TEXT);
"""
ROW = "x" * 700  # about what a job's row takes as JSON


def commits_per_second(folder: Path, commits: int) -> float:
    """One claim a commit: an attempt, a guarded update of the job, an event; WAL, synchronous FULL; one thread."""
    took: list[float] = []
    thread = threading.Thread(target=lambda: took.append(_seconds(folder / "commits.sqlite3", commits)))
    thread.start()
    thread.join()
    return commits / took[0]


def _seconds(path: Path, commits: int) -> float:
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        database.executescript(TABLES)
        jobs = [(f"{n:016x}", "pending", ROW) for n in range(commits)]
        database.execute("BEGIN")
        database.executemany("INSERT INTO jobs (job_id, status, spec) VALUES (?, ?, ?)", jobs)
        database.execute("COMMIT")
        began = time.perf_counter()
        for number in range(commits):
            _claim(database, number, f"{number:016x}")
        return time.perf_counter() - began


def _claim(database: sqlite3.Connection, number: int, job: str) -> None:
    attempt = str(uuid4())
    database.execute("BEGIN IMMEDIATE")
    database.execute(
        "INSERT INTO attempts VALUES (?, ?, 'worker', ?, 'claimed')", (attempt, job, str(uuid4()))
    )
    database.execute(
        "UPDATE jobs SET status = 'claimed', attempt = ?, attempts = 1, updated_at = 'now'"
        " WHERE job_id = ? AND status = 'pending'",
        (attempt, job),
    )
    database.execute("INSERT INTO events VALUES (?, 'now', 'claimed', ?, ?)", (number, job, ROW))
    database.execute("COMMIT")
