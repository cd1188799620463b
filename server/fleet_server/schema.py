"""The database's schema: built and moved by Alembic's history, never by hand."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DatabaseError

from fleet_server.database import is_sqlite, writing_engine


class SchemaError(Exception):
    """The database cannot be used as it is; the message says why and what to do."""


def configuration(url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", "fleet_migrations:")
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    return config


def migrate(url: str) -> str:
    """Bring the database to this program's revision; returns it. SchemaError when it is from a newer version.

    A SQLite file that holds something is copied aside first.
    """
    config = configuration(url)
    head, found = _head(config), current(url)
    if found != head:
        if found is not None and is_sqlite(url):
            back_up(url, found)
        command.upgrade(config, "head")
    return head


def require_current(url: str) -> None:
    """SchemaError unless the database is at this program's revision: a shared server is migrated by hand."""
    found, head = current(url), _head(configuration(url))
    if found != head:
        state = "empty" if found is None else f"at revision {found}"
        raise SchemaError(
            f"The database is {state}; this fleet needs revision {head}. Run: fleet-server migrate"
        )


def back_up(url: str, revision: str) -> Path:
    """A whole and consistent copy of a SQLite database beside it, named by the revision it is at."""
    database = Path(make_url(url).database or "")
    copy = database.with_name(
        f"{database.name}.before-{revision}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    )
    copy_to(url, copy)
    return copy


def copy_to(url: str, copy: Path) -> None:
    """A whole and consistent copy of a SQLite database, also while it is written to. SchemaError where that fails."""
    engine = writing_engine(url)
    try:  # VACUUM runs in no transaction; the engine's connections open one
        with closing(engine.raw_connection()) as connection:
            connection.cursor().execute("VACUUM INTO ?", (str(copy),))
    except sqlite3.Error as error:
        raise SchemaError(f"{engine.url.database} cannot be copied to {copy}: {error}.") from None
    finally:
        engine.dispose()


def current(url: str) -> str | None:
    """The database's revision; None for an empty one. SchemaError when this program does not know it."""
    engine = writing_engine(url)
    try:
        with engine.connect() as connection:
            revision = MigrationContext.configure(connection).get_current_revision()
    except DatabaseError as error:
        reason = error.orig or error
        raise SchemaError(
            f"{engine.url.render_as_string()} cannot be used as a database: {reason}."
        ) from None
    finally:
        engine.dispose()
    known = {script.revision for script in ScriptDirectory.from_config(configuration(url)).walk_revisions()}
    if revision is not None and revision not in known:
        raise SchemaError(
            f"The database is at revision {revision}, which a newer fleet made. Install that version, or give this "
            "one another folder with --data; nothing was changed."
        )
    return revision


def _head(config: Config) -> str:
    head = ScriptDirectory.from_config(config).get_current_head()
    assert head is not None, "the history ships in the wheel"
    return head
