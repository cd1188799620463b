"""An unchanged reload writes nothing: the database itself is asked, not the coordinator."""

from __future__ import annotations

from sqlalchemy import Connection, text

from fleet_server.database import Transaction
from tests.server.coordinator import Coordinator, job, jobs, manifest


def _written(connection: Connection) -> int:
    """Rows that the writing connection ever changed; on PostgreSQL the next transaction id to be given out."""
    if connection.dialect.name == "sqlite":
        changes: int = connection.connection.driver_connection.total_changes
        return changes
    return int(connection.execute(text("select pg_snapshot_xmax(pg_current_snapshot())::text")).scalar_one())


async def test_an_unchanged_reload_leaves_no_trace_in_the_database(fleet: Coordinator):
    wanted = manifest(*jobs(20), job("gpu", seed=99, require_cuda=True), hosts={"box": {"priority": 1}})

    async def written() -> int:
        def look(tx: Transaction) -> int:
            return _written(tx.connection)

        return await fleet.services.database.writer.run(look)

    empty = await written()
    await fleet.load(wanted)
    before = await written()
    assert before > empty, "the first one does write"
    for _ in range(3):
        assert (await fleet.load(wanted))["changed"] is False
    assert await written() == before
    await fleet.load(manifest(*jobs(21), hosts={"box": {"priority": 1}}))
    assert await written() > before
