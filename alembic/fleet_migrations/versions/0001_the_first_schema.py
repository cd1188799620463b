"""The first schema.

Revision 0001; the first.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "artifacts",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("model", sa.String(length=64), nullable=False),
        sa.Column("mode", sa.String(length=16), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("stored_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_artifacts")),
    )
    op.create_table(
        "events",
        sa.Column(
            "event", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False
        ),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("actor", sa.String(length=220), nullable=False),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("job_id", sa.String(length=16), nullable=True),
        sa.Column("worker_id", sa.String(length=36), nullable=True),
        sa.Column("row", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("event", name=op.f("pk_events")),
    )
    op.create_index("ix_events_job_id", "events", ["job_id"])

    op.create_table(
        "jobs",
        sa.Column("job_id", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("model", sa.String(length=64), nullable=False),
        sa.Column("mode", sa.String(length=16), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("needs_digest", sa.String(length=16), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("errors", sa.Integer(), nullable=False),
        sa.Column("lost", sa.Integer(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.String(length=36), nullable=True),
        sa.Column("worker_id", sa.String(length=36), nullable=True),
        sa.Column("worker", sa.String(length=200), nullable=True),
        sa.Column("avoid_worker_id", sa.String(length=36), nullable=True),
        sa.Column("artifact", sa.String(length=64), nullable=True),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("code", sa.String(length=300), nullable=True),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("in_manifest", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("queued_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_jobs")),
    )
    op.create_index("ix_jobs_name", "jobs", ["name"])
    waits = sa.text("not_before IS NOT NULL")
    columns = ["status", "not_before"]
    op.create_index("ix_jobs_not_before", "jobs", columns, sqlite_where=waits, postgresql_where=waits)
    op.create_index(
        "ix_jobs_ready",
        "jobs",
        ["status", "needs_digest", sa.literal_column("priority DESC"), "queued_at", "job_id"],
    )

    op.create_table(
        "manifests",
        sa.Column("manifest", sa.Integer(), nullable=False),
        sa.Column("applied_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.String(length=220), nullable=False),
        sa.Column("file", sa.Text(), nullable=False),
        sa.Column("fleet", sa.String(length=200), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("toml", sa.Text(), nullable=False),
        sa.Column("hosts", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("manifest", name=op.f("pk_manifests")),
    )
    op.create_table(
        "workers",
        sa.Column("worker_id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("incarnation", sa.String(length=36), nullable=False),
        sa.Column("boot_id", sa.String(length=200), nullable=True),
        sa.Column("version", sa.String(length=200), nullable=False),
        sa.Column("protocol", sa.Integer(), nullable=False),
        sa.Column("capability", sa.JSON(), nullable=False),
        sa.Column("live", sa.Boolean(), nullable=False),
        sa.Column("draining", sa.Boolean(), nullable=False),
        sa.Column("first_heard_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_heard_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("worker_id", name=op.f("pk_workers")),
    )
    op.create_index("ix_workers_name", "workers", ["name"])

    op.create_table(
        "attempts",
        sa.Column("attempt", sa.String(length=36), nullable=False),
        sa.Column("job_id", sa.String(length=16), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("worker_id", sa.String(length=36), nullable=False),
        sa.Column("worker", sa.String(length=200), nullable=False),
        sa.Column("claim_id", sa.String(length=36), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("tail", sa.Text(), nullable=True),
        sa.Column("artifact", sa.String(length=64), nullable=True),
        sa.Column("log_bytes", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_heartbeat_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.job_id"], name=op.f("fk_attempts_job_id_jobs")),
        sa.PrimaryKeyConstraint("attempt", name=op.f("pk_attempts")),
        sa.UniqueConstraint("claim_id", name=op.f("uq_attempts_claim_id")),
    )
    op.create_index("ix_attempts_job_id", "attempts", ["job_id"])
    op.create_index("ix_attempts_status", "attempts", ["status"])

    op.create_table(
        "uploads",
        sa.Column("attempt", sa.String(length=36), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("job_id", sa.String(length=16), nullable=False),
        sa.Column("worker", sa.String(length=200), nullable=False),
        sa.Column("provenance", sa.JSON(), nullable=True),
        sa.Column("metrics", sa.JSON(), nullable=True),
        sa.Column("uploaded_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["attempt"], ["attempts.attempt"], name=op.f("fk_uploads_attempt_attempts")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.job_id"], name=op.f("fk_uploads_job_id_jobs")),
        sa.ForeignKeyConstraint(["sha256"], ["artifacts.sha256"], name=op.f("fk_uploads_sha256_artifacts")),
        sa.PrimaryKeyConstraint("attempt", "sha256", name=op.f("pk_uploads")),
    )
    op.create_index("ix_uploads_job_id", "uploads", ["job_id"])


def downgrade() -> None:
    op.drop_index("ix_uploads_job_id", "uploads")

    op.drop_table("uploads")
    op.drop_index("ix_attempts_status", "attempts")
    op.drop_index("ix_attempts_job_id", "attempts")

    op.drop_table("attempts")
    op.drop_index("ix_workers_name", "workers")

    op.drop_table("workers")
    op.drop_table("manifests")
    op.drop_index("ix_jobs_ready", "jobs")
    op.drop_index("ix_jobs_not_before", "jobs")
    op.drop_index("ix_jobs_name", "jobs")

    op.drop_table("jobs")
    op.drop_index("ix_events_job_id", "events")

    op.drop_table("events")
    op.drop_table("artifacts")
