"""The schema, which Alembic's history in `fleet_migrations` builds and `alembic check` compares.

Rows are read and written with SQLAlchemy Core: a coordinator moves small rows in large batches, and every
query stands in the `queries` module of its feature.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import TypeVar

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
)

from fleet_protocol.states import AttemptStatus, JobStatus, LogState

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class Utc(TypeDecorator[datetime]):
    """Aware UTC times on both engines: SQLite keeps no zone, so it is put back on the way out."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


E = TypeVar("E", bound=StrEnum)


class Word(TypeDecorator[E]):
    """One of an enumeration's words, stored as text: a member goes in, a member comes out."""

    impl = String(16)
    cache_ok = True

    def __init__(self, words: type[E]) -> None:
        super().__init__()
        self.words = words

    def process_bind_param(self, value: E | None, dialect: Dialect) -> str | None:
        return None if value is None else str(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> E | None:
        return None if value is None else self.words(value)


Id = String(36)

jobs = Table(
    "jobs",
    metadata,
    Column("job_id", String(16), primary_key=True),
    Column("name", String(200), nullable=False),
    Column("model", String(64), nullable=False),
    Column("mode", String(16), nullable=False),
    Column("spec", JSON, nullable=False),
    Column("needs_digest", String(16), nullable=False),  # equal for jobs that the same workers can take
    Column("priority", Integer, nullable=False),
    Column("status", Word(JobStatus), nullable=False),
    Column("reason", Text),
    Column("attempts", Integer, nullable=False),
    Column("errors", Integer, nullable=False),  # counts towards max_attempts
    Column("lost", Integer, nullable=False),  # counts towards max_lost
    Column("generation", Integer, nullable=False),  # how often it was trained anew on purpose
    Column("attempt", Id),  # the current one, or the last
    Column("worker_id", Id),
    Column("worker", String(200)),
    Column("avoid_worker_id", Id),  # lost or failed there last: others are preferred
    Column("artifact", String(64)),
    Column("checkpoint", String(64)),  # a blob: what the next attempt goes on from
    Column("metrics", JSON, nullable=False),
    Column("code", String(300)),  # what trained the artifact: the trainer's version, or the command's digest
    Column("cancel_requested", Boolean, nullable=False),
    Column("in_manifest", Boolean, nullable=False),
    Column("created_at", Utc, nullable=False),
    Column("queued_at", Utc, nullable=False),
    Column("not_before", Utc),
    Column("started_at", Utc),
    Column("finished_at", Utc),
    Column("updated_at", Utc, nullable=False),
    Column("version", BigInteger, nullable=False),  # id of the last event about it
)
Index(
    "ix_jobs_ready",
    jobs.c.status,
    jobs.c.needs_digest,
    jobs.c.priority.desc(),
    jobs.c.queued_at,
    jobs.c.job_id,
)
Index("ix_jobs_name", jobs.c.name)
_WAITS = jobs.c.not_before.is_not(None)  # a few of many: when the next one is due must not take reading all
Index("ix_jobs_not_before", jobs.c.status, jobs.c.not_before, sqlite_where=_WAITS, postgresql_where=_WAITS)

attempts = Table(
    "attempts",
    metadata,
    Column("attempt", Id, primary_key=True),
    Column("job_id", ForeignKey("jobs.job_id"), nullable=False, index=True),
    Column("number", Integer, nullable=False),
    Column("worker_id", Id, nullable=False),
    Column("worker", String(200), nullable=False),
    Column("claim_id", Id, nullable=False, unique=True),
    Column("status", Word(AttemptStatus), nullable=False, index=True),
    Column("reason", Text),
    Column("exit_code", Integer),
    Column("tail", Text),
    Column("artifact", String(64)),
    Column("checkpoint", String(64)),  # the last one it brought
    Column("log_bytes", BigInteger),  # the log's full length as its agent tells it at the end
    Column("log_state", Word(LogState)),  # none while bytes may come
    Column("created_at", Utc, nullable=False),
    Column("started_at", Utc),
    Column("ended_at", Utc),
    Column("last_heartbeat_at", Utc),
)
_UNCLOSED = attempts.c.log_state.is_(
    None
)  # few of many: whose logs are to be closed is looked up again and again
Index("ix_attempts_unclosed", attempts.c.ended_at, sqlite_where=_UNCLOSED, postgresql_where=_UNCLOSED)

workers = Table(
    "workers",
    metadata,
    Column("worker_id", Id, primary_key=True),
    Column("name", String(200), nullable=False, index=True),
    Column("incarnation", Id, nullable=False),
    Column("boot_id", String(200)),
    Column("version", String(200), nullable=False),
    Column("protocol", Integer, nullable=False),
    Column("capability", JSON, nullable=False),
    Column("live", Boolean, nullable=False),
    Column("draining", Boolean, nullable=False),
    Column("first_heard_at", Utc, nullable=False),
    Column("last_heard_at", Utc, nullable=False),
)

artifacts = Table(
    "artifacts",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("model", String(64), nullable=False),
    Column("mode", String(16), nullable=False),
    Column("path", Text, nullable=False),  # relative to the data folder
    Column("stored_at", Utc, nullable=False),
)

blobs = Table(  # data sets, sources and checkpoints
    "blobs",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("stored_at", Utc, nullable=False),
)

uploads = Table(  # which attempt brought which artifact; identical bytes are stored once
    "uploads",
    metadata,
    Column("attempt", ForeignKey("attempts.attempt"), primary_key=True),
    Column("sha256", ForeignKey("artifacts.sha256"), primary_key=True),
    Column("job_id", ForeignKey("jobs.job_id"), nullable=False, index=True),
    Column("worker", String(200), nullable=False),
    Column("provenance", JSON),
    Column("metrics", JSON),  # as told with it, also where the attempt had lost the job
    Column("uploaded_at", Utc, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("event", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("at", Utc, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("actor", String(220), nullable=False),
    Column("detail", Text),
    Column("job_id", String(16), index=True),
    Column("worker_id", Id),
    Column("row", JSON, nullable=False),  # the job's or the worker's row after it
)

manifests = Table(
    "manifests",
    metadata,
    Column("manifest", Integer, primary_key=True),
    Column("applied_at", Utc, nullable=False),
    Column("actor", String(220), nullable=False),
    Column("file", Text, nullable=False),
    Column("fleet", String(200), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("toml", Text, nullable=False),
    Column("hosts", JSON, nullable=False),
)

credentials = Table(  # bearers of agents and people: of each secret only the hash
    "credentials",
    metadata,
    Column("id", String(8), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("secret_sha256", String(64), nullable=False),
    Column("name", String(200), nullable=False),
    Column("worker_id", Id),
    Column("replaces", String(8)),  # dies when this one is used for the first time
    Column("created_at", Utc, nullable=False),
    Column("created_by", String(220), nullable=False),
    Column("expires_at", Utc),
    Column("revoked_at", Utc),
)

join_tokens = Table(
    "join_tokens",
    metadata,
    Column("id", String(8), primary_key=True),
    Column("secret_sha256", String(64), nullable=False),
    Column("names", String(200)),
    Column("uses_left", Integer, nullable=False),
    Column("used_by", JSON, nullable=False),  # names of the workers that joined by it, in order
    Column("created_at", Utc, nullable=False),
    Column("created_by", String(220), nullable=False),
    Column("expires_at", Utc, nullable=False),
    Column("revoked_at", Utc),
)
