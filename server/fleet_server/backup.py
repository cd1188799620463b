"""A whole copy of the database while the coordinator runs, whether a copy is sound, and putting one back.

Artifacts, blobs, logs and curves are files: any program may copy them, after the database, or the copy lacks what came
in between. What the database says of artifacts and blobs is looked at here.
"""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy.engine import make_url

from fleet_server.activity import hold_folder
from fleet_server.blobs.service import place as blob_place
from fleet_server.database import is_sqlite
from fleet_server.durable import sync
from fleet_server.schema import copy_to, current

BESIDE = ("-wal", "-shm")
"""What SQLite keeps beside a database that was not closed in order."""


class Unsound(Exception):
    """The file is no backup that can be relied on, or cannot be made or put back here; the message says why."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a database refers to, and what is wrong with it."""

    jobs: int
    files: int
    wrong: tuple[str, ...]
    """A sentence for each file that is missing, or is not what its name says."""


def database_file(url: str) -> Path:
    """Unsound where the database is a server's."""
    if not is_sqlite(url):
        raise Unsound(
            "this database is PostgreSQL's: back it up with pg_dump, and put it back with pg_restore"
        )
    return Path(make_url(url).database or "")


def back_up(url: str, data: Path, file: Path | None, now: datetime) -> Path:
    """A copy as of now, by default in `data`/backups; the coordinator may go on writing. Returns where it is.

    Unsound, SchemaError, OSError: there is none.
    """
    database = database_file(url)
    if not database.is_file():
        raise Unsound(f"there is no database at {database}; give the coordinator's folder with --data")
    file = file or data / "backups" / f"fleet-{_stamp(now)}.sqlite3"
    if file.exists():
        raise Unsound(f"{file} is there already; give another name")
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = file.with_name(f"{file.name}.draft")
    try:
        copy_to(url, draft)
        _check(draft)
        draft.chmod(0o600)
        sync(draft)
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)
    sync(file.parent)
    return file


def restore(file: Path, url: str, data: Path, now: datetime) -> Path | None:
    """Put a backup in the place of the database, and what was there aside; returns where that is now.

    With nothing changed: Unsound when the file is no sound backup, SchemaError when a newer fleet made it,
    FolderInUse while a coordinator runs, OSError.
    """
    database = database_file(url)
    _check(file)
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = database.with_name(f"{database.name}.draft")
    with hold_folder(data):
        try:
            shutil.copyfile(file, draft)
            draft.chmod(0o600)
            current(f"sqlite:///{draft}")  # of the copy: to ask is to write, and a backup stays as it is
            sync(draft)
            return _put(draft, database, now)
        finally:
            draft.unlink(missing_ok=True)


def _put(draft: Path, database: Path, now: datetime) -> Path | None:
    """`draft` becomes the database; where the one before is now."""
    aside = database.with_name(f"{database.name}.replaced-{_stamp(now)}") if database.exists() else None
    if aside is not None:
        for ending in (*BESIDE, ""):  # the database last: without it, what is beside it means nothing
            if (part := Path(f"{database}{ending}")).exists():
                part.rename(f"{aside}{ending}")
    draft.replace(database)
    sync(database.parent)
    return aside


def verify(file: Path, data: Path, *, digests: bool) -> Found:
    """Whether the database is sound and `data` holds what it refers to; with `digests` every byte is read."""
    _check(file)
    with closing(_open(file)) as connection:
        (jobs,) = connection.execute("SELECT count(*) FROM jobs").fetchone()
        artifacts = connection.execute("SELECT path, sha256, size_bytes FROM artifacts").fetchall()
        blobs = connection.execute("SELECT sha256, size_bytes FROM blobs").fetchall()
    stored = [*artifacts, *((blob_place(sha256), sha256, size) for sha256, size in blobs)]
    return Found(jobs, len(stored), tuple(_wrong(data, stored, digests)))


def _wrong(data: Path, stored: list[tuple[str, str, int]], digests: bool) -> Iterator[str]:
    for place, sha256, size in stored:
        path = data / place
        found = path.stat().st_size if path.is_file() else None
        if found is None:
            yield f"{path} is missing"
        elif found != size:
            yield f"{path} has {found} bytes, not {size}"
        elif digests:
            with path.open("rb") as content:
                if hashlib.file_digest(content, "sha256").hexdigest() != sha256:
                    yield f"{path} is damaged: its SHA-256 is another one"


def _check(file: Path) -> None:
    """Unsound unless `file` is a whole database of fleet's."""
    if not file.is_file():
        raise Unsound(f"there is no file {file}")
    try:
        with closing(_open(file)) as connection:
            said = [row[0] for row in connection.execute("PRAGMA integrity_check(3)")]
            strays = connection.execute("PRAGMA foreign_key_check").fetchone()
            connection.execute("SELECT 1 FROM jobs, alembic_version LIMIT 1").fetchone()
    except sqlite3.DatabaseError as error:
        raise Unsound(f"{file} is no database of fleet's: {error}") from None
    if said != ["ok"] or strays:
        raise Unsound(f"{file} is damaged: {'; '.join(said) if said != ['ok'] else 'rows refer to none'}")


def _open(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)


def _stamp(now: datetime) -> str:
    return now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
