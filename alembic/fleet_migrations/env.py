"""Alembic's environment: one synchronous connection, the tables of the server as the target."""

from __future__ import annotations

from alembic import context

from fleet_server.database import writing_engine
from fleet_server.settings import Settings
from fleet_server.tables import metadata


def run() -> None:
    url = context.config.get_main_option("sqlalchemy.url") or Settings().url
    engine = writing_engine(url)
    with engine.connect() as connection:
        context.configure(connection, target_metadata=metadata, render_as_batch=True, compare_type=True)
        with context.begin_transaction():
            context.run_migrations()
    engine.dispose()


run()
